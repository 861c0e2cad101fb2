"""No password, however awkward, is shown, and each one that can be read is read by every library alike."""

import random
from urllib.parse import quote

import pytest
import sqlalchemy
from requests.utils import get_auth_from_url
from urllib3.util import parse_url

from components.tracking.address import HIDDEN, address, credentials, encoded, hide
from emd_core.errors import UserError

AWKWARD = "@:/#%?&=+[]\\'\"<>^|` äßé漢🔑\t"
USUAL = "abcXYZ0189-._~!$"
PLACES = ("http://host:5000", "https://host/mlflow", "postgresql://db:5432/runs", "postgresql+psycopg://db/runs")


def passwords(count: int) -> list[str]:
    """Of 8 characters, half of them awkward; the same ones each time."""
    source = random.Random(7)
    return ["".join(source.choice(source.choice((AWKWARD, USUAL))) for _ in range(8)) for _ in range(count)]


@pytest.mark.parametrize("place", PLACES)
def test_a_password_as_it_is_gets_read_or_refused_and_is_never_shown(place: str) -> None:
    scheme, host = place.split("://")
    with pytest.raises(UserError) as refused:
        encoded(f"{scheme}://me:5/x@{host}")
    read = 0
    for password in passwords(400):
        uri = f"{scheme}://me:{password}@{host}"
        assert address(uri) == place
        assert hide(f"no {uri}: host {password} of '{uri}'", uri) == f"no {place}: host {HIDDEN} of '{place}'"
        try:
            known = credentials(encoded(uri))
        except UserError as error:
            assert str(error) == str(refused.value)
            continue
        if "%" not in password:  # what follows may be an encoded character
            assert known == ("me", password)
        read += 1
    assert read > 200


@pytest.mark.parametrize("place", PLACES)
def test_an_encoded_password_is_the_same_to_every_library(place: str) -> None:
    scheme, host = place.split("://")
    for password in passwords(400):
        uri = f"{scheme}://me:{quote(password, safe='')}@{host}"
        assert encoded(uri) == uri and credentials(uri) == ("me", password) and address(uri) == place
        if scheme.startswith("http"):
            assert get_auth_from_url(uri) == ("me", password) and parse_url(uri).host == "host"
        else:
            url = sqlalchemy.make_url(uri)
            assert (url.username, url.password, url.host) == ("me", password, "db")
        assert password not in hide(f"{uri} failed", uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://emd:secret@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("postgresql://db/mlflow?user=me&password=secret", "postgresql://db/mlflow"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dsecret", "mssql+pyodbc:///"),
        ("postgresql://db/mlflow?user=me@here&password=secret", "postgresql://***"),
        ("http://secret@host:5000/", "http://host:5000/"),
        ("me:secret@host:5000", "host:5000"),
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite:////home/a@b/#1/mlflow.db", "sqlite:////home/a@b/#1/mlflow.db"),
        ("git@github.com:me/data.git", "git@github.com:me/data.git"),
    ],
)
def test_what_is_shown_of_an_address(uri: str, shown: str) -> None:
    assert address(uri) == shown


def test_an_address_that_can_be_read_in_two_ways_is_refused() -> None:
    for uri in ("http://mlflow:5000/path@x", "http://me:5/secret@host", "http://me:a@b/secret@host"):
        with pytest.raises(UserError, match="can be read in two ways") as refused:
            encoded(uri)
        assert "secret" not in str(refused.value)


def test_addresses_within_a_librarys_words_lose_their_secrets() -> None:
    said = "fatal: Authentication failed for 'https://me:pw@host/repo.git/'\n  see https://dvc.org/doc"
    assert hide(said) == "fatal: Authentication failed for 'https://host/repo.git/' see https://dvc.org/doc"
    assert hide("password pw of me", "http://me:pw@host") == f"password {HIDDEN} of me"

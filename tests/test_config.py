"""Settings: which place wins, the shapes that files have, and what is said about what is wrong."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest

from relaycall.config import EndpointSettings, RelaySettings, Settings, reveal, user_file
from relaycall.errors import ConfigError, CredentialsError, ExtraMissing, RelaycallError, SecretMissing
from relaycall.redact import Secret
from relaycall.relays.configured import configured_relays
from relaycall.relays.server import RelayServer
from relaycall.store.login import StoredLogin, encode_login

CANARY = "canary-7f3a"  # stands wherever a value is wrong, and must never be shown
JSON = """{"callRtcConfig": {"forceTurn": true, "turnServers": [{"urls": ["turn:relay.example.org:3478"], "username": "relay-user", "credential": "relay-password"}]}}"""  # noqa: E501
YAML = """\
turn:
  - urls: turn:relay.example.org:3478
    username: relay-user
    credential: relay-password
"""
THE_RELAY = RelaySettings(("turn:relay.example.org:3478",), "relay-user", Secret("relay-password"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of their own, whose config folder is empty, and no variables."""
    for name in [name for name in os.environ if name.startswith("RELAYCALL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    return tmp_path / "home"


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(error: type[ConfigError] = ConfigError, **arguments: Any) -> ConfigError:
    with pytest.raises(error) as caught:
        Settings.load(**arguments)
    text = f"{caught.value} {caught.value!r} {caught.value.args}"
    assert CANARY not in text
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return caught.value


# --- places ----------------------------------------------------------------------------------------------------------


def test_nothing_is_configured() -> None:
    settings = Settings.load()
    assert settings == Settings()
    assert (settings.relays, settings.laboratory, settings.force_turn, settings.sources) == ((), False, True, {})


def test_each_place_gives_way_to_those_before_it(tmp_path: Path) -> None:
    assert user_file().is_relative_to(tmp_path)
    written(user_file().parent, "config.toml", "relays = [{urls = 'turn:folder.test'}]\nlaboratory = true")
    found = []

    def seen(**arguments: Any) -> None:
        settings = Settings.load(**arguments)
        found.append((settings.relays[0].urls[0], settings.sources["relays"]))
        assert settings.laboratory  # only the folder has it, so it is not covered by the others
        assert settings.sources["laboratory"] == f"file {user_file()}"

    seen()
    file = written(tmp_path, "a.toml", "relays = [{urls = ['turn:file.test']}]")
    seen(file=file)
    named = {"RELAYCALL_CONFIG": str(file)}
    seen(environ=named)
    seen(environ=named, file=written(tmp_path, "b.toml", "relays = [{urls = ['turn:other.test']}]"))
    environ = {**named, "RELAYCALL_RELAYS": "turn:env.test, turns:second.test", "RELAYCALL_FORCE_TURN": ""}
    seen(environ=environ)
    seen(environ=environ, relays=["turn:argument.test"])
    assert found == [
        ("turn:folder.test", f"file {user_file()}"),
        ("turn:file.test", f"file {file}"),
        ("turn:file.test", f"file {file}"),
        ("turn:other.test", f"file {tmp_path / 'b.toml'}"),
        ("turn:env.test", "environment"),
        ("turn:argument.test", "argument"),
    ]
    assert [relay.urls for relay in Settings.load(environ=environ).relays] == [
        ("turn:env.test",),
        ("turns:second.test",),
    ]


def test_the_environment_is_the_process_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAYCALL_LABORATORY", "Yes")
    assert Settings.load().laboratory
    assert not Settings.load(laboratory=False).laboratory
    assert not Settings.load(environ={}).laboratory


def test_what_a_covered_place_says_is_checked_all_the_same(tmp_path: Path) -> None:
    file = written(tmp_path, "a.toml", "laboratory = 1")
    assert "laboratory" in refused(file=file, laboratory=True).sentence


# --- the shapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), [("a.json", JSON), ("a.yaml", YAML), ("a.YML", YAML)])
def test_the_shapes_that_people_have(name: str, text: str, tmp_path: Path) -> None:
    if not name.endswith("json"):
        require_yaml()
    settings = Settings.load(file=written(tmp_path, name, text))
    assert settings.relays == (THE_RELAY,)
    assert settings.force_turn


def require_yaml() -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("yaml")


def test_everything_that_toml_takes(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "a.toml",
        """
        username = "for-all"
        credential = "env:PASSWORD"
        laboratory = false
        force_turn = true

        [[relays]]
        urls = ["turn:relay.example.org", "turns:relay.example.org:443?transport=tcp"]
        username = "relay-user"
        credential = "relay-password"
        region = "eu"
        operator = "one"

        [[relays]]
        urls = "turns:192.0.2.7"
        shared_secret = "keyring:shared"
        ttl = 3600
        tls_name = "relay.example.net"

        [[endpoints]]
        url = "https://turn.example.org/key-in-path"
        method = "POST"
        bearer = "keyring:token"
        headers = { X-Key = "key" }
        body = { ttl = 86400 }
        """,
    )
    settings = Settings.load(file=file)
    first, second = settings.relays
    assert first.urls == ("turn:relay.example.org", "turns:relay.example.org:443?transport=tcp")
    assert (first.region, first.operator) == ("eu", "one")
    assert second == RelaySettings(
        ("turns:192.0.2.7",), shared_secret=Secret("keyring:shared"), ttl=3600, tls_name="relay.example.net"
    )
    assert settings.endpoints == (
        EndpointSettings(
            Secret("https://turn.example.org/key-in-path"),
            "POST",
            Secret("keyring:token"),
            {"X-Key": Secret("key")},
            {"ttl": 86400},
        ),
    )
    assert (settings.username, settings.credential) == ("for-all", Secret("env:PASSWORD"))


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"\xef\xbb\xbf" + JSON.encode())
    assert Settings.load(file=file).relays == (THE_RELAY,)


def test_yaml_without_its_extra_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    error = refused(ExtraMissing, file=written(tmp_path, "a.yaml", YAML))
    assert "extra yaml" in error.sentence
    assert "relaycall[yaml]" in error.next_step
    assert error.exit_code == 2


# --- what is wrong ---------------------------------------------------------------------------------------------------

WRONG = [
    # TOML
    (f"relay = '{CANARY}'", "relay", "is not known"),
    (f"relays = '{CANARY}'", "relays", "has to be a list, not text"),
    (f"relays = ['{CANARY}']", "relays[0]", "has to be a table, not text"),
    ("relays = [{}]", "relays[0].urls", "is missing"),
    (f"relays = [{{urls = 'turn:a.test', pasword = '{CANARY}'}}]", "relays[0].pasword", "is not known"),
    ("relays = [{urls = 7}]", "relays[0].urls", "has to be text or a list, not a whole number"),
    ("relays = [{urls = []}]", "relays[0].urls", "is empty"),
    ("relays = [{urls = ['turn:a.test', 7]}]", "relays[0].urls[1]", "has to be text, not a whole number"),
    (f"relays = [{{urls = '{CANARY}'}}]", "relays[0].urls", "has to start with turn: or turns:"),
    (f"relays = [{{urls = ['turn:a.test', 'turn:a.test:{CANARY}']}}]", "relays[0].urls[1]", "the port"),
    (
        f"relays = [{{urls = 'turn:a.test'}}, {{urls = 'turn:b.test', username = 'u', credential = 7}}, '{CANARY}']",
        "relays[1].credential",
        "has to be text or nothing, not a whole number",
    ),
    (f"relays = [{{urls = 'turn:a.test', username = '{CANARY}'}}]", "relays[0].credential", "is missing"),
    (f"relays = [{{urls = 'turn:a.test', credential = '{CANARY}'}}]", "relays[0].username", "is missing"),
    ("relays = [{urls = 'turn:a.test', username = 'u', credential = ''}]", "relays[0].credential", "is empty"),
    (
        f"relays = [{{urls='turn:a.test', username='u', credential='c', shared_secret='{CANARY}'}}]",
        "relays[0].shared_secret",
        "cannot stand beside",
    ),
    ("relays = [{urls = 'turn:a.test', username = '" + "u" * 600 + "'}]", "relays[0].username", "longer than"),
    (f"relays = [{{urls = 'turn:a.test', tls_name = '{CANARY} '}}]", "relays[0].tls_name", "is not usable"),
    ("relays = [{urls = 'turn:a.test', region = ''}]", "relays[0].region", "is not usable"),
    ("relays = [{urls = 'turn:a.test', ttl = 0}]", "relays[0].ttl", "is out of range"),
    ("relays = [{urls = 'turn:a.test', ttl = true}]", "relays[0].ttl", "has to be a whole number, not true or false"),
    (f"laboratory = '{CANARY}'", "laboratory", "has to be true or false, not text"),
    ("force_turn = false", "force_turn", "cannot be false"),
    (f"username = '{CANARY}'", "username", "has no credential beside it"),
    (f"credential = '{CANARY}'", "credential", "has no username beside it"),
    ("username = ''", "username", "is empty"),
    (f"endpoints = [{{url = '{CANARY}'}}]", "endpoints[0].url", "has to be an https URL"),
    (f"endpoints = [{{url = 'https://a.test', method = '{CANARY}'}}]", "endpoints[0].method", "GET or POST"),
    (
        f"endpoints = [{{url = 'https://a.test', body = {{a = '{CANARY}'}}}}]",
        "endpoints[0].body",
        "takes the method POST",
    ),
    ("endpoints = [{url = 'https://a.test', headers = {A = 7}}]", "endpoints[0].headers[...]", "has to be text"),
    (f"\"\\u001b[31m\" = '{CANARY}'", "?[31m", "is not known"),
]


@pytest.mark.parametrize(("text", "key", "problem"), WRONG, ids=str)
def test_toml_that_is_wrong(text: str, key: str, problem: str, tmp_path: Path) -> None:
    file = written(tmp_path, "a.toml", text)
    sentence = refused(file=file).sentence
    assert sentence.startswith(f"The setting {key} (file {file}) ")
    assert problem in sentence


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("[]", "at the top", "has to be a table, not a list"),
        (json.dumps({"callRtcConfig": {}, "more": CANARY}), "more", "is not known"),
        (json.dumps({"callRtcConfig": CANARY}), "callRtcConfig", "has to be a table, not text"),
        (json.dumps({"callRtcConfig": {"turnServer": CANARY}}), "callRtcConfig.turnServer", "is not known"),
        (json.dumps({"callRtcConfig": {"forceTurn": CANARY}}), "callRtcConfig.forceTurn", "has to be true or false"),
        (json.dumps({"callRtcConfig": {"forceTurn": None}}), "callRtcConfig.forceTurn", "not nothing"),
        (json.dumps({"callRtcConfig": {"forceTurn": False}}), "callRtcConfig.forceTurn", "cannot be false"),
        (
            json.dumps({"callRtcConfig": {"turnServers": [{"urls": ["turn:a.test"]}, {"urls": ["stun:a.test"]}]}}),
            "callRtcConfig.turnServers[1].urls[0]",
            "has to start with turn:",
        ),
        (
            json.dumps({"callRtcConfig": {"turnServers": [{"urls": ["turn:a.test"], "password": CANARY}]}}),
            "callRtcConfig.turnServers[0].password",
            "is not known",
        ),
        (json.dumps({"\x1b[31m": CANARY}), "?[31m", "is not known"),
    ],
)
def test_json_that_is_wrong(text: str, key: str, problem: str, tmp_path: Path) -> None:
    file = written(tmp_path, "a.json", text)
    sentence = refused(file=file).sentence
    assert sentence.startswith(f"The setting {key} (file {file}) ")
    assert problem in sentence


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (CANARY, "at the top", "has to be a table, not text"),
        (f"turns: {CANARY}", "turns", "is not known"),
        (f"turn: {CANARY}", "turn", "has to be a list, not text"),
        (f"turn:\n- urls: turn:a.test\n  username: u\n  credentials: {CANARY}", "turn[0].credentials", "is not known"),
        ("turn:\n- urls: turn:a.test\n  username: u\n  credential: 12345", "turn[0].credential", "has to be text"),
        (f"1: {CANARY}", "at the top", "has a key that is not text"),
        (f"turn:\n- urls: turn:a.test\n  1: {CANARY}", "turn[0]", "has a key that is not text"),
        (f"- - at `$x`: {CANARY}", "at the top", "has to be a table, not a list"),
        (f"turn:\n- 'a - at `$b`': {CANARY}", "turn[0].a - at `$b`", "is not known"),
    ],
)
def test_yaml_that_is_wrong(text: str, key: str, problem: str, tmp_path: Path) -> None:
    require_yaml()
    file = written(tmp_path, "a.yaml", text)
    sentence = refused(file=file).sentence
    assert sentence.startswith(f"The setting {key}")
    assert problem in sentence


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.toml", f"laboratory = true\nx = {CANARY}", "is not TOML at line 2"),
        ("a.toml", "x = " + "[" * 100_000, "is not TOML"),
        ("a.json", f'{{\n"{CANARY}', "is not JSON at line 2"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.yaml", f"turn:\n- 'a: {CANARY}\n", "is not YAML"),
        ("a.yaml", f"a: !!python/object/apply:os.system ['{CANARY}']", "is not YAML at line 1"),
        ("a.yaml", "[" * 1_200, "is not YAML"),
        ("a.ini", CANARY, "has an unknown ending"),
        ("a.toml", "#" * (1 << 20) + "\n", "is larger than"),
    ],
    ids=lambda value: value[:30],
)
def test_a_file_that_is_not_what_its_name_says(name: str, text: str, problem: str, tmp_path: Path) -> None:
    if name.endswith("yaml"):
        require_yaml()
    file = written(tmp_path, name, text)
    assert refused(file=file).sentence.startswith(f"The configuration file {file} {problem}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert (
        refused(file=tmp_path / "none.toml").sentence == f"The configuration file {tmp_path}/none.toml does not exist."
    )
    assert "none.toml does not exist" in refused(environ={"RELAYCALL_CONFIG": "none.toml"}).sentence
    (tmp_path / "folder.toml").mkdir()
    assert "is not a regular file" in refused(file=tmp_path / "folder.toml").sentence
    os.mkfifo(tmp_path / "pipe.toml")
    assert "is not a regular file" in refused(file=tmp_path / "pipe.toml").sentence
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe4'")
    assert "is not UTF-8" in refused(file=tmp_path / "latin.toml").sentence
    long = tmp_path / ("n" * 300 + ".toml")
    assert "cannot be read" in refused(file=long).sentence


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"RELAYCALL_RELAY": CANARY}, "The environment variable RELAYCALL_RELAY is not known."),
        ({"RELAYCALL_ENDPOINTS": CANARY}, "The environment variable RELAYCALL_ENDPOINTS is not known."),
        ({"RELAYCALL_LABORATORY": CANARY}, "The setting RELAYCALL_LABORATORY (environment) has to be true or false"),
        ({"RELAYCALL_FORCE_TURN": "false"}, "The setting RELAYCALL_FORCE_TURN (environment) cannot be false"),
        ({"RELAYCALL_FORCE_TURN": "0"}, "The setting RELAYCALL_FORCE_TURN (environment) cannot be false"),
        ({"RELAYCALL_RELAYS": f"turn:a.test turn:a.test:{CANARY}"}, "The setting RELAYCALL_RELAYS[1] (environment)"),
        ({"RELAYCALL_USERNAME": CANARY}, "The setting RELAYCALL_USERNAME (environment) has no credential"),
    ],
)
def test_variables_that_are_wrong(environ: dict[str, str], said: str) -> None:
    assert refused(environ=environ).sentence.startswith(said)


def test_variables_of_others_are_let_be() -> None:
    assert Settings.load(environ={"RELAYCALL_VAULT_PASSPHRASE": "x", "RELAYCALLS": "x", "RELAY": "x"}) == Settings()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"relays": CANARY}, "The setting relays (argument) has to be a list, not text"),
        ({"relays": [7]}, "The setting relays[0].urls (argument) has to be text or a list"),
        ({"relays": ["turn:a.test", CANARY]}, "The setting relays[1] (argument) is not usable"),
        ({"force_turn": False}, "The setting force_turn (argument) cannot be false"),
        ({"laboratory": 1}, "The setting laboratory (argument) has to be true or false"),
        ({"username": 7, "credential": CANARY}, "The setting username (argument) has to be text"),
    ],
)
def test_arguments_that_are_wrong(arguments: dict[str, Any], said: str) -> None:
    assert refused(environ={}, **arguments).sentence.startswith(said)


# --- what shows ------------------------------------------------------------------------------------------------------


def secretive(tmp_path: Path) -> Settings:
    return Settings.load(
        credential=Secret(f"{CANARY}-1"),
        username=f"{CANARY}-2",
        file=written(
            tmp_path,
            "a.toml",
            f"""
            [[relays]]
            urls = ["turn:relay.example.org"]
            username = "{CANARY}-3"
            credential = "{CANARY}-4"
            [[relays]]
            urls = ["turn:second.example.org"]
            shared_secret = "env:SHARED"
            [[endpoints]]
            url = "https://turn.example.org:8443/{CANARY}-5?key={CANARY}"
            method = "POST"
            bearer = "{CANARY}-6"
            headers = {{ X-Key = "{CANARY}-7", X-Other = "file:/run/key" }}
            body = {{ key = "{CANARY}-8" }}
            """,
        ),
    )


def test_what_is_shown(tmp_path: Path) -> None:
    file = f"file {tmp_path / 'a.toml'}"
    settings = secretive(tmp_path)
    assert settings.shown() == [
        ("relays[0].urls", ["turn:relay.example.org"], file),
        ("relays[0].username", "***", file),
        ("relays[0].credential", "***", file),
        ("relays[1].urls", ["turn:second.example.org"], file),
        ("relays[1].shared_secret", "env:SHARED", file),
        ("relays[1].ttl", 86400, file),
        ("endpoints[0].url", "https://turn.example.org/***", file),
        ("endpoints[0].method", "POST", file),
        ("endpoints[0].bearer", "***", file),
        ("endpoints[0].headers.X-Key", "***", file),
        ("endpoints[0].headers.X-Other", "file:/run/key", file),
        ("endpoints[0].body", "***", file),
        ("username", "***", "argument"),
        ("credential", "***", "argument"),
        ("laboratory", False, "default"),
        ("force_turn", True, "default"),
    ]


def test_no_repr_and_no_pickle_has_a_secret(tmp_path: Path) -> None:
    settings = secretive(tmp_path)
    for one in (settings, *settings.relays, *settings.endpoints):
        assert CANARY not in f"{one!r} {one}"
    with pytest.raises(TypeError):
        pickle.dumps(settings)


# --- relays ----------------------------------------------------------------------------------------------------------


class Kept:
    """A store of two things."""

    async def get(self, name: str) -> Secret | None:
        return {"login": encode_login(StoredLogin("kept-user", Secret("kept-password"))), "shared": Secret("s")}.get(
            name
        )


async def relays_of(store: Any = None, **arguments: Any) -> list[RelayServer]:
    return await configured_relays(Settings.load(**arguments), store=store)


def login(relay: RelayServer) -> tuple[str | None, str | None]:
    return relay.username, relay.password and relay.password.reveal()


async def test_relays_with_their_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_TEST", "from-the-environment")
    text = """
        username = "for-all"
        credential = "env:SECRET_OF_TEST"
        [[relays]]
        urls = ["turn:a.test", "turns:a.test"]
        region = "eu"
        [[relays]]
        urls = "turn:b.test"
        username = "own"
        credential = "plain"
        [[relays]]
        urls = "turn:c.test"
        credential = "keyring:login"
        [[relays]]
        urls = "turn:d.test"
        shared_secret = "keyring:shared"
        """
    found = await relays_of(Kept(), file=written(tmp_path, "a.toml", text))
    assert [relay.name for relay in found] == [
        "turn:a.test:3478?transport=udp",
        "turns:a.test:5349?transport=tcp",
        "turn:b.test:3478?transport=udp",
        "turn:c.test:3478?transport=udp",
        "turn:d.test:3478?transport=udp",
    ]
    assert found[0].region == "eu"
    assert [login(relay) for relay in found[:4]] == [
        ("for-all", "from-the-environment"),
        ("for-all", "from-the-environment"),
        ("own", "plain"),
        ("kept-user", "kept-password"),
    ]
    assert ":" in (found[4].username or "")


async def test_relays_without_credentials() -> None:
    (relay,) = await relays_of(relays=["turn:a.test"])
    assert login(relay) == (None, None)
    assert await relays_of() == []


async def test_a_secret_that_cannot_be_had(tmp_path: Path) -> None:
    for reference, error in (("keyring:none", SecretMissing), ("env:NONE_OF_TEST", ConfigError)):
        with pytest.raises(error):
            await relays_of(Kept(), relays=["turn:a.test"], username="u", credential=reference)


async def test_relays_from_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, str, bytes]] = []

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        asked.append((request.headers.get("Authorization"), request.headers["X-Key"], await request.read()))
        entry = {"urls": "turn:given.test", "username": "u", "credential": "c"}
        return aiohttp.web.json_response({"iceServers": [entry]})

    app = aiohttp.web.Application()
    app.router.add_post("/key", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    try:
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        monkeypatch.setenv("URL_OF_TEST", f"http://127.0.0.1:{runner.addresses[0][1]}/key")
        text = """
            relays = [{urls = "turn:own.test"}]
            [[endpoints]]
            url = "env:URL_OF_TEST"
            method = "POST"
            bearer = "token"
            headers = { X-Key = "keyring:shared" }
            body = { ttl = 60 }
            """
        file = written(tmp_path, "a.toml", text)
        found = await relays_of(Kept(), file=file, laboratory=True)
        assert [(relay.host, *login(relay)) for relay in found] == [("own.test", None, None), ("given.test", "u", "c")]
        assert asked == [("Bearer token", "s", b'{"ttl": 60}')]
        with pytest.raises(ConfigError):  # http is for laboratories
            await relays_of(Kept(), file=file)
    finally:
        await runner.cleanup()
    with pytest.raises(CredentialsError):
        await relays_of(Kept(), file=file, laboratory=True)


async def test_what_a_setting_stands_for(tmp_path: Path) -> None:
    assert (await reveal(Secret("plain"))).reveal() == "plain"
    assert (await reveal(Secret("keyring:"))).reveal() == "keyring:"
    file = written(tmp_path, "secret", "from-a-file\n")
    assert (await reveal(Secret(f"file:{file}"))).reveal() == "from-a-file"
    with pytest.raises(RelaycallError):
        await reveal(Secret("env:NONE_OF_TEST"))

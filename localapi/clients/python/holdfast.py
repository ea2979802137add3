"""Configuration from the Holdfast agent beside this program.

One file, no dependency, Python 3.9 or later. Copy it next to your program
(`holdfast client python > holdfast.py`).

    from holdfast import ConfigLibrary

    library = ConfigLibrary(service_name="stt-worker")
    config = await library.get_config(STTWorkerConfig)   # a Pydantic model, a dataclass, or nothing: a dict
    await library.subscribe_updates(on_update)           # on_update(new_config) after each change
    ...
    await library.close()

ConfigClient is the same without asyncio: a program calls get_config, subscribe_updates and
close, and its callbacks run in one thread of the client.

The agent is found by HOLDFAST_URL (http://127.0.0.1:2770, or unix:///path/of/local.sock), else
at 127.0.0.1:2770. A caller gets secrets with the token of the agent (token, token_file or
HOLDFAST_TOKEN_FILE), or over the socket as a user that the agent trusts.

What holds:

- The newest configuration counts: by (epoch, version), never an older one after a newer one.
- A model that refuses a configuration, or a callback that raises, keeps the previous one in
  force; the logger "holdfast" says so, and `rejected` has the version and the reason.
- Nothing is written to disk: the agent is the cache. While it restarts, the configuration in
  force stays, and the client asks again, with a jittered delay of at most five seconds.
- Several changes in a short time may be delivered as one: the newest.
- The agent is told which version is in force, and which was refused and why, so that its
  author sees that (docs/instances.md). It takes this from who may have secrets, or from all with
  CONFIG_ACK_OPEN=1; else the client is silent after one try. acknowledge=False: never.

After os.fork, make a new object in the child: a thread does not live on there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import inspect
import json
import logging
import os
import random
import socket
import threading
import time
import typing
import urllib.parse
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, Optional, Type, TypeVar, Union, overload

__all__ = ["ConfigClient", "ConfigError", "ConfigLibrary", "ConfigRejected", "ConfigUpdateCallback", "Rejected"]

M = TypeVar("M")
ConfigUpdateCallback = Callable[[Any], Union[None, Awaitable[None]]]

log = logging.getLogger("holdfast")

_DEFAULT_URL = "http://127.0.0.1:2770"
_WAIT = 60.0  # of one long poll, seconds
_SLOWEST = 5.0  # between two attempts, seconds
_CONNECT = 5.0
_MAX_BODY = 64 << 20


class ConfigError(Exception):
    """The agent has no configuration to give. `code` is that of the agent's answer, or "unreachable"."""

    def __init__(self, message: str, code: str = "", hint: str = ""):
        super().__init__(f"{message} ({hint})" if hint else message)
        self.code = code
        self.hint = hint


class ConfigRejected(ConfigError):
    """The model does not accept the configuration of the agent. It names fields, never values."""

    def __init__(self, message: str):
        super().__init__(message, "rejected")


class Rejected(NamedTuple):
    """A configuration that was not taken over."""

    epoch: str
    version: int
    reason: str


class _Document(NamedTuple):
    config: Dict[str, Any]
    epoch: str
    version: int
    etag: str


class _Deleted(NamedTuple):
    message: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Agent:
    """The HTTP side: one request at a time for each thread. stop ends one that waits."""

    def __init__(self, service: str, url: Optional[str], token: Optional[str], token_file: Optional[str]):
        if not service or "/" in service:
            raise ValueError(f"service_name {service!r} is not the name of a service")
        self.service = service
        self.url = url or os.environ.get("HOLDFAST_URL") or _DEFAULT_URL
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "unix") or parts.username or parts.query:
            raise ValueError(f"{self.url!r} is neither http://HOST:PORT nor unix:///PATH")
        self._unix = parts.path if parts.scheme == "unix" else ""
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._token = token
        self._token_file = token_file or os.environ.get("HOLDFAST_TOKEN_FILE")
        self._lock = threading.Lock()
        self._open: List[http.client.HTTPConnection] = []
        self._heard = True  # the agent takes acknowledgements
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()
        with self._lock:
            for conn in self._open:
                if conn.sock is not None:
                    try:
                        conn.sock.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass

    def get(self, etag: str, wait: float) -> Union[_Document, _Deleted, None]:
        """The document of the service; None when it is still that of etag. Waits for another at most wait seconds."""
        path, headers = "/v1/config/" + urllib.parse.quote(self.service, safe=""), {}
        if etag:
            path += f"?wait={max(1, int(wait))}s"
            headers["If-None-Match"] = etag
        return self._call("GET", path, headers, None, wait, self._answer)

    def acknowledge(self, epoch: str, version: int, status: str, reason: str) -> None:
        """Tells the agent what became of a version, once. It may not want to hear it, and that is no error."""
        if not self._heard or version < 1:
            return
        word = {"version": version, "config_epoch": epoch, "status": status, "worker": str(os.getpid())}  # of several the worst counts
        if reason:
            word["reason"] = " ".join(reason.encode()[:1000].decode(errors="ignore").split())
        path = "/v1/ack/" + urllib.parse.quote(self.service, safe="")
        try:
            answer = self._call("POST", path, {"Content-Type": "application/json"}, json.dumps(word).encode(), 0, lambda r: r.status)
        except ConfigError as e:
            log.debug("%s: version %d is not acknowledged: %s", self.service, version, e)
            return
        if answer in (401, 403, 404, 405, 501):  # it will not take the next one either
            self._heard = False

    def _call(self, method: str, path: str, headers: Dict[str, str], body: Optional[bytes], wait: float, read: Callable[[http.client.HTTPResponse], M]) -> M:
        if self._unix:
            conn: http.client.HTTPConnection = _UnixConnection(self._unix, _CONNECT)
        else:
            conn = http.client.HTTPConnection(self._host, self._port, timeout=_CONNECT)
        with self._lock:
            if self.stopped.is_set():
                raise ConfigError("closed", "closed")
            self._open.append(conn)
        try:
            conn.connect()
            conn.sock.settimeout(wait + 10)
            headers["Accept"] = "application/json"
            if self._token_file:
                with open(self._token_file, encoding="ascii") as f:
                    headers["X-Holdfast-Token"] = f.read().strip()
            elif self._token:
                headers["X-Holdfast-Token"] = self._token
            conn.request(method, path, body=body, headers=headers)
            if self.stopped.is_set():
                raise ConfigError("closed", "closed")
            return read(conn.getresponse())
        except (OSError, http.client.HTTPException) as e:
            if self.stopped.is_set():
                raise ConfigError("closed", "closed") from None
            raise ConfigError(f"the agent at {self.url} does not answer: {e}", "unreachable", "is it running?") from e
        finally:
            with self._lock:
                self._open.remove(conn)
            conn.close()

    def _answer(self, r: http.client.HTTPResponse) -> Union[_Document, _Deleted, None]:
        if r.status == 304:
            return None
        body = r.read(_MAX_BODY)
        try:
            doc = json.loads(body)
            if r.status == 200:
                meta = doc["metadata"]
                return _Document(doc["config"], meta["config_epoch"], int(meta["version"]), r.headers.get("ETag", ""))
            message, code, hint = str(doc["error"]), str(doc["code"]), str(doc.get("hint", ""))
        except (ValueError, KeyError, TypeError) as e:
            raise ConfigError(f"{self.url} answers {r.status}, not as an agent does", "malformed") from e
        if r.status == 404 and "X-Config-Version" in r.headers:
            return _Deleted(message)
        raise ConfigError(message, code, hint)


_FINAL = ("malformed", "unauthenticated", "denied", "method_not_allowed", "closed")


class _Backoff:
    def __init__(self) -> None:
        self._next = 0.1

    def reset(self) -> None:
        self._next = 0.1

    def delay(self) -> float:
        d, self._next = self._next, min(self._next * 2, _SLOWEST)
        return d * random.uniform(0.5, 1.0)


class _Newest:
    """The newest document that the agent has given. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: set = set()
        self.doc: Optional[_Document] = None

    def take(self, doc: _Document) -> bool:
        """Whether doc is newer than what is here, or has other values of the same version (secrets, environment)."""
        with self._lock:
            have = self.doc
            if doc.epoch in self._left:
                return False
            if have is not None and have.epoch == doc.epoch:
                if (doc.version, doc.etag) == (have.version, have.etag) or doc.version < have.version:
                    return False
            elif have is not None:
                self._left.add(have.epoch)
            self.doc = doc
            return True


def _names(e: Exception) -> str:
    """What a model says of a configuration, without the values, which may be secrets."""
    errors = getattr(e, "errors", None)
    if callable(errors):
        try:
            found = errors(include_input=False, include_url=False)  # Pydantic 2
        except TypeError:
            found = errors()  # Pydantic 1
        return "; ".join(f"{'.'.join(str(x) for x in f['loc'])}: {f['msg']}" for f in found)
    return f"{type(e).__name__}: {e}"


def _build(model: Any, config: Dict[str, Any]) -> Any:
    """config as the model has it. Raises ConfigRejected."""
    if model is None or model is dict:
        return config
    try:
        if hasattr(model, "model_validate"):  # Pydantic 2
            return model.model_validate(config)
        if hasattr(model, "parse_obj"):  # Pydantic 1
            return model.parse_obj(config)
        if dataclasses.is_dataclass(model):
            return _dataclass(model, config)
        return model(**config)
    except Exception as e:  # a model may raise anything
        name = getattr(model, "__name__", repr(model))
        raise ConfigRejected(f"{name} does not accept the configuration: {_names(e)}") from None


def _dataclass(model: Any, config: Dict[str, Any]) -> Any:
    hints = typing.get_type_hints(model)
    names = {f.metadata.get("key", f.name): f.name for f in dataclasses.fields(model) if f.init}
    extra = sorted(set(config) - set(names))
    if extra and getattr(model, "_holdfast_extra", "") != "ignore":
        raise TypeError(f"no field for {', '.join(extra)}")
    return model(**{names[k]: _typed(hints.get(names[k]), v) for k, v in config.items() if k in names})


def _typed(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _dataclass(hint, value)
    args = typing.get_args(hint)
    if isinstance(value, list) and typing.get_origin(hint) in (list, List) and args:
        return [_typed(args[0], v) for v in value]
    if isinstance(value, dict) and typing.get_origin(hint) in (dict, Dict) and len(args) == 2:
        return {k: _typed(args[1], v) for k, v in value.items()}
    if value is not None and type(None) in args:  # Optional
        rest = [a for a in args if a is not type(None)]
        return _typed(rest[0], value) if len(rest) == 1 else value
    if hint is float and type(value) is int:
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise TypeError(f"a field of type {hint.__name__} gets {type(value).__name__}")
    return value


class _Base:
    """What both kinds of clients share. Its state changes in one thread at a time: the caller's or the watcher's."""

    def __init__(self, service_name: str, url: Optional[str], token: Optional[str], token_file: Optional[str], timeout: float, acknowledge: bool):
        self._agent = _Agent(service_name, url, token, token_file)
        self._acknowledges = acknowledge
        self._acknowledging: List[threading.Thread] = []
        self._newest = _Newest()
        self._timeout = timeout
        self._model: Any = None
        self._callbacks: List[ConfigUpdateCallback] = []
        self._thread: Optional[threading.Thread] = None
        self._shown: Optional[_Document] = None  # what the program has
        self.service_name = service_name
        self.config: Any = None
        self.version = 0
        self.epoch = ""
        self.rejected: Optional[Rejected] = None

    def _first(self) -> _Document:
        """The document, from the agent; tries for the timeout."""
        end = time.monotonic() + self._timeout
        backoff = _Backoff()
        while True:
            try:
                got = self._agent.get("", 0)
                if isinstance(got, _Document):
                    self._newest.take(got)
                    return self._newest.doc or got
                raise ConfigError(got.message if got else "no document", "not_found")
            except ConfigError as e:
                left = end - time.monotonic()
                if e.code in _FINAL or left <= 0:
                    raise
                self._agent.stopped.wait(min(backoff.delay(), left))

    def _in_force(self, doc: _Document, config: Any) -> None:
        self._shown, self.config, self.version, self.epoch = doc, config, doc.version, doc.epoch
        self._acknowledge(doc, "applied", "")

    def _reject(self, doc: _Document, reason: str) -> None:
        self.rejected = Rejected(doc.epoch, doc.version, reason)
        self._acknowledge(doc, "rejected", reason)

    def _acknowledge(self, doc: _Document, status: str, reason: str) -> None:
        """Neither the program nor the next change waits for it."""
        if self._acknowledges:
            args = (doc.epoch, doc.version, status, reason)
            thread = threading.Thread(target=self._agent.acknowledge, args=args, name=f"holdfast-{self.service_name}-ack", daemon=True)
            self._acknowledging = [t for t in self._acknowledging if t.is_alive()] + [thread]
            thread.start()

    def _stop(self) -> None:
        self._agent.stop()
        for thread in self._acknowledging:
            thread.join(1)

    def _accept(self, doc: _Document, model: Any) -> Any:
        """The first configuration, as the model has it. Raises ConfigRejected."""
        try:
            config = _build(model, doc.config)
        except ConfigRejected as e:
            self._reject(doc, str(e))
            raise
        self._model = model
        self._in_force(doc, config)
        return config

    def _start(self, deliver: Callable[[_Document], None]) -> None:
        if self._agent.stopped.is_set():
            raise ConfigError("closed", "closed")
        if self._thread is None:
            name = f"holdfast-{self.service_name}"
            self._thread = threading.Thread(target=self._watch, args=(deliver,), name=name, daemon=True)
            self._thread.start()

    def _watch(self, deliver: Callable[[_Document], None]) -> None:
        backoff, etag, down = _Backoff(), "", ""
        if self._newest.doc is not None:
            etag = self._newest.doc.etag
        while not self._agent.stopped.is_set():
            try:
                got = self._agent.get(etag, _WAIT)
                if isinstance(got, _Deleted):
                    raise ConfigError(got.message, "not_found")
            except ConfigError as e:
                if e.code == "closed":
                    return
                if e.code != down:
                    log.warning("%s: %s; the configuration in force stays", self.service_name, e)
                down = e.code
                self._agent.stopped.wait(backoff.delay())
                continue
            if down:
                log.info("%s: the agent answers again", self.service_name)
                down = ""
            if got is None:
                backoff.reset()
                continue
            etag = got.etag  # also of an older one: the next answer is another
            if self._newest.take(got):
                backoff.reset()
                deliver(got)
            else:
                self._agent.stopped.wait(backoff.delay())


class ConfigLibrary(_Base):
    """Configuration of one service, for asyncio. Use it from one event loop."""

    def __init__(
        self,
        service_name: str,
        *,
        url: Optional[str] = None,
        token: Optional[str] = None,
        token_file: Optional[str] = None,
        timeout: float = 30.0,
        acknowledge: bool = True,
    ):
        """timeout is how many seconds get_config waits for an agent that does not answer, or has nothing yet."""
        super().__init__(service_name, url, token, token_file, timeout, acknowledge)
        self._wake: Optional[asyncio.Event] = None
        self._task: Optional["asyncio.Task[None]"] = None

    @overload
    async def get_config(self) -> Dict[str, Any]: ...

    @overload
    async def get_config(self, model: Type[M]) -> M: ...

    async def get_config(self, model: Any = None) -> Any:
        """The configuration, as an instance of the model, or as a dict. Raises ConfigError, ConfigRejected."""
        return self._accept(await _in_thread(self._first), model)

    async def subscribe_updates(self, callback: ConfigUpdateCallback) -> None:
        """Calls callback(new_config), a function or a coroutine function, after each change from now on."""
        loop = asyncio.get_running_loop()
        self._callbacks.append(callback)
        if self._task is None:
            wake = self._wake = asyncio.Event()
            self._task = loop.create_task(self._deliver(wake))

            def deliver(_: _Document) -> None:
                try:
                    loop.call_soon_threadsafe(wake.set)
                except RuntimeError:  # the loop is closed, close was not called
                    self._agent.stop()

            self._start(deliver)

    async def _deliver(self, wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            doc = self._newest.doc
            if doc is None or doc == self._shown:
                continue
            try:
                config = _build(self._model, doc.config)
            except ConfigRejected as e:
                self._reject(doc, str(e))
                log.error("%s: version %d is not taken over: %s", self.service_name, doc.version, e)
                continue
            for callback in list(self._callbacks):
                try:
                    result = callback(config)
                    if inspect.isawaitable(result):
                        await result
                except Exception as e:  # the callback is the program's
                    self._reject(doc, f"the callback raised {type(e).__name__}")
                    log.exception("%s: version %d is not taken over: the callback raised", self.service_name, doc.version)
                    break
            else:
                self._in_force(doc, config)

    async def close(self) -> None:
        """Ends the subscription at once. It may be called more than once, also by a callback."""
        self._stop()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass

    async def __aenter__(self) -> "ConfigLibrary":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()


async def _in_thread(f: Callable[[], M]) -> M:
    return await asyncio.get_running_loop().run_in_executor(None, f)


class ConfigClient(_Base):
    """Configuration of one service, without asyncio. Callbacks run in one thread of the client."""

    def __init__(
        self,
        service_name: str,
        *,
        url: Optional[str] = None,
        token: Optional[str] = None,
        token_file: Optional[str] = None,
        timeout: float = 30.0,
        acknowledge: bool = True,
    ):
        """timeout is how many seconds get_config waits for an agent that does not answer, or has nothing yet."""
        super().__init__(service_name, url, token, token_file, timeout, acknowledge)

    @overload
    def get_config(self) -> Dict[str, Any]: ...

    @overload
    def get_config(self, model: Type[M]) -> M: ...

    def get_config(self, model: Any = None) -> Any:
        """The configuration, as an instance of the model, or as a dict. Raises ConfigError, ConfigRejected."""
        return self._accept(self._first(), model)

    def subscribe_updates(self, callback: Callable[[Any], None]) -> None:
        """Calls callback(new_config) after each change from now on, in the client's thread."""
        self._callbacks.append(callback)
        self._start(self._deliver)

    def _deliver(self, doc: _Document) -> None:
        if doc == self._shown:
            return
        try:
            config = _build(self._model, doc.config)
        except ConfigRejected as e:
            self._reject(doc, str(e))
            log.error("%s: version %d is not taken over: %s", self.service_name, doc.version, e)
            return
        for callback in list(self._callbacks):
            try:
                callback(config)
            except Exception as e:  # the callback is the program's
                self._reject(doc, f"the callback raised {type(e).__name__}")
                log.exception("%s: version %d is not taken over: the callback raised", self.service_name, doc.version)
                return
        self._in_force(doc, config)

    def close(self) -> None:
        """Ends the subscription at once. It may be called more than once, also by a callback."""
        self._stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10)

    def __enter__(self) -> "ConfigClient":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

"""A service that uses the client library: service.py sync|async dict|dataclass|pydantic. It ends at SIGTERM."""

import asyncio
import dataclasses
import logging
import signal
import sys
import threading
import time

from holdfast import ConfigClient, ConfigLibrary

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="log %(message)s")
kind, shape = sys.argv[1:3]


@dataclasses.dataclass
class DataclassConfig:
    whisper_model: str
    vad_threshold: float = 0.5
    stt_backend: str = "whisper"
    ws_url: "str | None" = None
    streaming_partials: bool = False
    vad_speech_pad_ms: int = 300
    vad_silence_duration_ms: int = 500
    sample_rate: int = 16000
    channels: int = 1

    def __post_init__(self):
        if self.vad_threshold > 0.9:
            raise ValueError("vad_threshold: this service takes at most 0.9")


def pydantic_model():
    from typing import Literal, Optional

    import pydantic
    from pydantic import BaseModel, Field

    print("pydantic", pydantic.VERSION, flush=True)

    class STTWorkerConfig(BaseModel):  # the one of the data model, but for the bound of vad_threshold
        if pydantic.VERSION.startswith("1."):

            class Config:
                extra = "forbid"
        else:
            model_config = pydantic.ConfigDict(extra="forbid")

        whisper_model: str = Field(default="base.en", description="Whisper model size")
        stt_backend: Literal["whisper", "ws"] = Field(default="whisper")
        ws_url: Optional[str] = Field(None, description="WebSocket backend URL")
        streaming_partials: bool = Field(default=False)
        vad_threshold: float = Field(default=0.5, ge=0.0, le=0.9)
        vad_speech_pad_ms: int = Field(default=300, ge=0, le=1000)
        vad_silence_duration_ms: int = Field(default=500, ge=0, le=2000)
        sample_rate: int = Field(default=16000, gt=0)
        channels: int = Field(default=1, ge=1, le=2)

    return STTWorkerConfig


def field(config, name):
    return config[name] if isinstance(config, dict) else getattr(config, name)


model = {"dict": lambda: None, "dataclass": lambda: DataclassConfig, "pydantic": pydantic_model}[shape]()


def show(what, library, config):
    print(f"{what} whisper_model={field(config, 'whisper_model')} vad={field(config, 'vad_threshold')}", flush=True)
    if field(config, "whisper_model") == "raise":
        raise RuntimeError("this service cannot load that model")


def ended(started, library):
    state = f"in force version={library.version} rejected={library.rejected.version if library.rejected else 0}"
    threads = [t.name for t in threading.enumerate() if t.name.startswith("holdfast")]
    late = " late" if time.monotonic() - started > 10 else ""
    print(f"closed{late} {state} threads={threads}", flush=True)


def run():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    library = ConfigClient("stt-worker")
    show("first", library, library.get_config(model) if model else library.get_config())
    library.subscribe_updates(lambda config: show("update", library, config))
    stop.wait()
    started = time.monotonic()
    library.close()
    ended(started, library)


async def run_async():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    library = ConfigLibrary(service_name="stt-worker")
    show("first", library, await (library.get_config(model) if model else library.get_config()))

    async def update(config):
        show("update", library, config)

    await library.subscribe_updates(update)
    await stop.wait()
    started = time.monotonic()
    await library.close()
    while any(t.name.startswith("holdfast") for t in threading.enumerate()) and time.monotonic() - started < 10:
        await asyncio.sleep(0.01)
    ended(started, library)


run() if kind == "sync" else asyncio.run(run_async())

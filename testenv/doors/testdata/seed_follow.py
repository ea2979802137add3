"""Follows three services with the models of the data model, until SIGTERM."""

import asyncio
import json
import signal

import pydantic
from holdfast import ConfigLibrary
from tars.config.models import RouterConfig, STTWorkerConfig, TTSWorkerConfig


def show(what, service, config):
    assert isinstance(config, pydantic.BaseModel)
    print(what, service, json.dumps(dict(config)), flush=True)


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("pydantic", pydantic.VERSION, flush=True)
    libraries = []
    for service, model in {"stt-worker": STTWorkerConfig, "tts-worker": TTSWorkerConfig, "router": RouterConfig}.items():
        show("default", service, model())
        library = ConfigLibrary(service_name=service)
        libraries.append(library)
        show("first", service, await library.get_config(model))

        async def update(config, service=service):
            show("update", service, config)

        await library.subscribe_updates(update)
    await stop.wait()
    for library in libraries:
        await library.close()


asyncio.run(main())

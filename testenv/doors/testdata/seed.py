"""Runs the program of the quickstart: as it is, and once more until SIGTERM."""

import asyncio
import signal

from seed_service import MyService, main


async def run():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    service = MyService()
    await service.start()
    await stop.wait()
    await service.shutdown()


asyncio.run(main())
asyncio.run(run())

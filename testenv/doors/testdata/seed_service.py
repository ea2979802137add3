# apps/my-service/src/my_service/service.py

import asyncio
from holdfast import ConfigLibrary, ConfigUpdateCallback
from tars.config.models import MyServiceConfig

class MyService:
    def __init__(self):
        self.config_lib = ConfigLibrary(service_name="my-service")
        self.config: MyServiceConfig | None = None
    
    async def start(self) -> None:
        # Load configuration from database
        self.config = await self.config_lib.get_config(MyServiceConfig)
        
        # Subscribe to runtime updates
        await self.config_lib.subscribe_updates(self._on_config_update)
        
        print(f"Loaded config: {self.config}")
    
    async def _on_config_update(self, new_config: MyServiceConfig) -> None:
        """Called when configuration changes via MQTT."""
        print(f"Config updated: {new_config}")
        self.config = new_config
        # Apply changes as needed (some settings may require restart)
    
    async def shutdown(self) -> None:
        await self.config_lib.close()

# Usage
async def main():
    service = MyService()
    await service.start()
    # ... run service
    await service.shutdown()

from __future__ import annotations
from pydantic import BaseModel, Field, ConfigDict
from typing import Literal

class MyServiceConfig(BaseModel):
    """Configuration for my-service."""
    model_config = ConfigDict(extra="forbid")
    
    some_setting: str = Field(default="default_value")
    another_setting: int = Field(default=100, ge=0, le=1000)
    enable_feature: bool = Field(default=False)

class STTWorkerConfig(BaseModel):
    """Configuration for STT Worker service."""
    model_config = ConfigDict(extra="forbid")
    
    whisper_model: str = Field(default="base.en", description="Whisper model size")
    stt_backend: Literal["whisper", "ws"] = Field(default="whisper")
    ws_url: str | None = Field(None, description="WebSocket backend URL")
    streaming_partials: bool = Field(default=False)
    vad_threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    vad_speech_pad_ms: int = Field(default=300, ge=0, le=1000)
    vad_silence_duration_ms: int = Field(default=500, ge=0, le=2000)
    sample_rate: int = Field(default=16000, gt=0)
    channels: int = Field(default=1, ge=1, le=2)

# Example: TTS Worker Configuration
class TTSWorkerConfig(BaseModel):
    """Configuration for TTS Worker service."""
    model_config = ConfigDict(extra="forbid")
    
    piper_voice: str = Field(default="en_US-lessac-medium")
    tts_streaming: bool = Field(default=False)
    tts_pipeline: bool = Field(default=True)
    tts_aggregate_by_utt: bool = Field(default=True)
    tts_aggregate_timeout_sec: float = Field(default=2.0, ge=0.0, le=10.0)
    volume_percent: int = Field(default=100, ge=0, le=200)

# Example: Router Configuration
class RouterConfig(BaseModel):
    """Configuration for Router service."""
    model_config = ConfigDict(extra="forbid")
    
    router_llm_tts_stream: bool = Field(default=True)
    router_stream_min_chars: int = Field(default=30, ge=1)
    router_stream_max_chars: int = Field(default=200, ge=1)
    router_stream_boundary_only: bool = Field(default=True)
    router_stream_boundary_regex: str = Field(default=r"[.!?…]+[\"')\\]]?\\s")

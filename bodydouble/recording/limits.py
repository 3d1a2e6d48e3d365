"""What a recording may hold at most: files come from others, so every size is checked before it is believed."""

from __future__ import annotations

from dataclasses import dataclass

MESSAGE_BYTES = 256
"""What holding a message costs beside its content: a chunk of empty messages is small, and they are not."""


@dataclass(frozen=True)
class Limits:
    """Upper bounds that a reader enforces; a file beyond one of them is refused by name."""

    max_record_bytes: int = 256 << 20
    """Largest MCAP record, as stored (compressed)."""
    max_chunk_bytes: int = 256 << 20
    """Largest chunk after decompression."""
    max_message_bytes: int = 64 << 20
    """Largest single message."""
    max_small_message_bytes: int = 8 << 20
    """Largest message that is decoded into objects, which take more memory than their bytes: all but images."""
    max_image_pixels: int = 16 << 20
    """Most pixels of one image (width times height)."""
    max_channels: int = 1024
    """Most channels (topics) of one file."""
    max_schema_bytes: int = 256 << 10
    """Longest message definition."""
    max_summary_bytes: int = 64 << 20
    """Largest summary section (the index at the end of the file)."""
    max_chunks: int = 1 << 20
    """Most chunks of one file."""
    max_metadata_bytes: int = 16 << 20
    """All metadata records together."""
    max_pending_bytes: int = 256 << 20
    """Most bytes held at once to put messages of overlapping chunks into time order, with MESSAGE_BYTES for each."""
    max_pending_frames: int = 64
    """Most depth images held while their colour image or pose is still to come."""


DEFAULT_LIMITS = Limits()

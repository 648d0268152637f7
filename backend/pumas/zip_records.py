"""How the records of a ZIP file are laid out; what a reader believes of them is its own affair.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (4.3.6–4.3.16, 4.4, 4.5.3).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

LOCAL_MAGIC: Final = b"PK\x03\x04"
ENTRY_MAGIC: Final = b"PK\x01\x02"
END_MAGIC: Final = b"PK\x05\x06"
END64_MAGIC: Final = b"PK\x06\x06"
LOCATOR64_MAGIC: Final = b"PK\x06\x07"
LOCAL: Final = Struct("<4s5H3I2H")
ENTRY: Final = Struct("<4s6H3I5H2I")
END: Final = Struct("<4s4H2IH")
END64: Final = Struct("<4sQ2H2I4Q")
LOCATOR64: Final = Struct("<4sIQI")
EXTRA: Final = Struct("<2H")
WIDE_EXTRA: Final = 1
"""The further field with the sizes and places of which the record itself says `MOST_32`."""
MOST_16, MOST_32 = 0xFFFF, 0xFFFFFFFF
"""What stands where a number needs more room."""
STORED, DEFLATED = 0, 8

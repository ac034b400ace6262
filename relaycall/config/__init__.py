"""Settings: from arguments, over RELAYCALL_* variables, over a file, over the file in the user's config folder."""

from relaycall.config.places import user_file
from relaycall.config.settings import EndpointSettings, RelaySettings, Settings, ShownSetting, reveal

__all__ = ["EndpointSettings", "RelaySettings", "Settings", "ShownSetting", "reveal", "user_file"]

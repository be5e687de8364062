"""Every JSON shape that we take or give. Nothing here knows who sends it, or over what."""

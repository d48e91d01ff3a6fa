"""``python -m figclip_cli`` is the same program as ``figclip``."""

from __future__ import annotations

from figclip_cli.app import main

if __name__ == "__main__":
    main()

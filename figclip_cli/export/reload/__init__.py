"""Programs that open an export with the library it is for, alone, in a fresh process.

Nothing of figclip is imported by them, so nothing that it patched or cached can make a broken folder look right.
``figclip_cli.export.formats.format.Format`` says what they take and give.
"""

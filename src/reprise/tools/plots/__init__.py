"""Pictures of a run as SVG, drawn without a plotting library, in milliseconds; the same figures give the same bytes."""

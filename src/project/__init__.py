"""Your project: data, models, metrics, callbacks. The worked examples show what each looks like."""

"""Data sets: functions that return a `reprise.data.Data`."""

"""Figures and reports of finished results: they draw, and compute nothing but the summaries that are drawn."""

"""Scores of many pairs, figures from scores, pictures from figures."""

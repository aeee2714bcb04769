"""The code that the three entry scripts share: data, models, training, inference, evaluation."""

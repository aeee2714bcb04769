"""What the three entry scripts share: data, models, training, evaluation, and the floor below."""

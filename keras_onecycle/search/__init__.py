"""The rest of the recipe: weight decay, dropout, momentum and batch size that fit the learning rate."""

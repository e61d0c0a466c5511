"""graphpred: predict which sparse network to train on a data set."""

"""What a class needs beyond one learner: a server for all of them."""

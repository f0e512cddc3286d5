"""What a teacher does with a class: hand out, collect, grade, see how it stands."""

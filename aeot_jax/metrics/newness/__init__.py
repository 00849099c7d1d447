"""Are new points new: nearest known points of new and of unseen ones, side by side."""

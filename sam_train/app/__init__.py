"""The page on which people label images, judge models and tune them."""

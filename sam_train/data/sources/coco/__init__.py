"""COCO: outlines of objects in a JSON file beside the images."""

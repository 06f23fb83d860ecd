"""One cell from images to numbers: inspection, prediction, maps, evaluation."""

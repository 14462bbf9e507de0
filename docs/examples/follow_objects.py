"""Follow objects through a video from a click, and correct what is found."""

from sam_train.data.world.film import ToyClips
from sam_train.inference.video_session import VideoSession
from sam_train.runs.run import base_model
from sam_train.runs.settings import ModelChoice

clips = ToyClips("test", 1, num_frames=6, image_size=128)
frames = [clips.read_frame(0, frame).image for frame in range(6)]  # or any images of 3 x height x width, 8 bit

session = VideoSession(base_model(ModelChoice("sam2_nano"), seed=0).eval(), frames)
session.prompt(0, "ball", points=[[40, 60]], labels=[1])  # x, y; 1 on the object, 0 beside it
for found in session.propagate():
    print(found.frame, found.objects, found.masks.shape)
session.prompt(5, "ball", points=[[100, 20]], labels=[0])  # a correction, which stays
masks = [found.masks for found in session.propagate(reverse=True)]

"""Arrays that were prepared for MedSAM: npz files, or folders of npy."""

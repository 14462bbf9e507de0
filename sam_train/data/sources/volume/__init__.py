"""Volumes: slices of NIfTI, NRRD, MHA and DICOM with their label volumes."""

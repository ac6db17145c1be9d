//! Sans-I/O codecs, one file each. Does no input or output.

//! Steps that can be undone, and the journal that makes a run survive a crash. Knows nothing of images.

//! Files that change while they are in use.

//! What seeds have found, kept as stories: each a list of steps that once failed.

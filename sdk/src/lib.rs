//! Write loginscope plugins: one login at a time.

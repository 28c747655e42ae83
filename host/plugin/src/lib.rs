//! WebAssembly plugins: compiled, checked, limited and called.

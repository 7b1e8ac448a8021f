//! stub
/// stub
pub struct MemoryLog;

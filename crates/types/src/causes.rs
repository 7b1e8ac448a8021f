//! [`WithCauses`]: an error as it is told to people.

use std::error::Error;
use std::fmt;

/// An error and everything that it says caused it, on one line: `outer: inner: innermost`.
pub struct WithCauses<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the log could not be read")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn causes_stand_behind_what_they_caused() {
        let cause = io::Error::other("no space left");
        assert_eq!(WithCauses(&cause).to_string(), "no space left");
        assert_eq!(WithCauses(&Outer(cause)).to_string(), "the log could not be read: no space left");
    }
}

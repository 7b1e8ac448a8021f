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
    struct Outer(&'static str, Box<dyn Error>);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.1)
        }
    }

    #[test]
    fn causes_stand_behind_what_they_caused() {
        let cause = io::Error::other("no space left");
        assert_eq!(WithCauses(&cause).to_string(), "no space left");
        let inner = Outer("the log could not be read", cause.into());
        let outer = Outer("nothing was listed", inner.into());
        assert_eq!(
            WithCauses(&outer).to_string(),
            "nothing was listed: the log could not be read: no space left"
        );
    }
}

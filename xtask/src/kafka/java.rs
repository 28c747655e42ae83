//! Java, and Kafka's jars from Maven Central.
//!
//! The jars of one Kafka release lie in one folder that appears whole or not at all, so that programs that run at the
//! same time may all ask for it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::project;

/// The Kafka release that tests and demo run against.
pub const KAFKA_VERSION: &str = "4.1.0";

/// The oldest Java that Kafka's brokers run on.
const OLDEST_JAVA: u32 = 17;

const INSTALL: &str = "`apt-get install openjdk-17-jre-headless maven`";

/// What Kafka needs of the machine: a Java and the jars.
#[derive(Debug, Clone)]
pub struct Java {
    program: PathBuf,
    libraries: PathBuf,
}

impl Java {
    /// Finds Java and the jars, which are fetched through Maven if they aren't there yet.
    ///
    /// # Errors
    /// One sentence that says what is missing and how to install it.
    pub fn prepare() -> Result<Self> {
        let program = find_java()?;
        let folder = project::target().join("kafka");
        let libraries = folder.join(format!("libs-{KAFKA_VERSION}"));
        if !libraries.is_dir() {
            fetch_jars(&folder, &libraries)?;
        }
        Ok(Self { program, libraries })
    }

    /// Java with Kafka's classes, ready for options, a main class and its arguments.
    pub(super) fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let mut classes = OsString::from(&self.libraries);
        classes.push("/*");
        command.args(options).arg("-cp").arg(classes);
        command
    }
}

fn find_java() -> Result<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty());
    let program = home.map_or_else(|| PathBuf::from("java"), |home| Path::new(&home).join("bin/java"));
    let Ok(output) = project::finished(Command::new(&program).arg("-version")) else {
        bail!("Kafka needs Java {OLDEST_JAVA} or newer, and `{}` doesn't run: {INSTALL}", program.display());
    };
    let said = [output.stdout, output.stderr].concat();
    match major_version(&String::from_utf8_lossy(&said)) {
        Some(major) if major >= OLDEST_JAVA => Ok(program),
        Some(major) => {
            bail!("Kafka needs Java {OLDEST_JAVA} or newer, and `{}` is {major}: {INSTALL}", program.display())
        }
        None => bail!("`{} -version` names no version; Kafka needs Java {OLDEST_JAVA}: {INSTALL}", program.display()),
    }
}

/// The major version in what `java -version` says: `version "17.0.15"` is 17, the old `"1.8.0_402"` is 8.
fn major_version(said: &str) -> Option<u32> {
    let (_, after) = said.split_once("version \"")?;
    let (version, _) = after.split_once('"')?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    match numbers.next().flatten()? {
        1 => numbers.next().flatten(),
        major => Some(major),
    }
}

/// Lets Maven copy the jars to a folder of its own, and then gives that its name. Others who do the same wait.
fn fetch_jars(folder: &Path, libraries: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let lock = std::fs::File::create(folder.join("libs.lock"))?;
    lock.lock().context("cannot lock Kafka's jars")?;
    if libraries.is_dir() {
        return Ok(());
    }
    if project::finished(Command::new("mvn").arg("--version")).is_err() {
        bail!("Maven is needed to fetch Kafka {KAFKA_VERSION}, and `mvn` doesn't run: {INSTALL}");
    }
    eprintln!("fetching Kafka {KAFKA_VERSION} from Maven Central");
    let work = tempfile::Builder::new().prefix("fetching-").tempdir_in(folder)?;
    std::fs::write(work.path().join("pom.xml"), project_file())?;
    let jars = work.path().join("libs");
    project::finished(Command::new("mvn").current_dir(&work).args([
        "--batch-mode",
        "--quiet",
        "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
        "-DincludeScope=runtime",
        "-DoutputDirectory=libs",
    ]))
    .context("Kafka's jars could not be fetched from Maven Central (is there a network?)")?;
    std::fs::rename(&jars, libraries).with_context(|| format!("cannot create {}", libraries.display()))
}

/// A Maven project that wants nothing but Kafka's broker and a logger that writes to standard error.
fn project_file() -> String {
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>loginscope</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions_are_read_old_and_new() {
        let cases = [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime", Some(17)),
            ("java version \"1.8.0_402\"", Some(8)),
            ("openjdk version \"21\" 2023-09-19", Some(21)),
            ("Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version \"25-ea\"", Some(25)),
            ("no such thing", None),
            ("version \"unknown\"", None),
        ];
        for (said, major) in cases {
            assert_eq!(major_version(said), major, "{said}");
        }
    }
}

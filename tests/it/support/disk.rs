//! A small disk of a test's own: mounted in a mount namespace that ends with the test, however it ends, so that nothing
//! leaks. Needs root and Linux's usual tools; where they are missing, the test says so and passes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What lies under the file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Memory: as fast as it gets, full when it is full.
    Tmpfs,
    /// A loop device: it can fail, freeze and be mounted again.
    Ext4,
}

/// A mounted file system; the process in it only waits for the end of its input, which is ours.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    /// Where it is mounted, in the namespace.
    at: PathBuf,
    /// Holds the image of a loop device.
    pool: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB at `at`; `None`, after saying so, where that cannot be done here.
    pub fn mount(kind: Kind, at: &Path, mib: u32) -> Option<Self> {
        let pool = at.with_extension("pool");
        for dir in [at, &pool] {
            fs::create_dir_all(dir).expect("a writable directory");
        }
        let (data, image) = (at.display(), pool.join("image"));
        let mount = match kind {
            Kind::Tmpfs => format!("mount -t tmpfs -o size={mib}m none {data}"),
            Kind::Ext4 => {
                let image = image.display();
                format!(
                    "truncate -s {mib}m {image} && mkfs.ext4 -q -E lazy_itable_init=0 {image} && \
                     mount -o loop,errors=continue {image} {data}"
                )
            }
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(format!("{mount} && echo ready && exec cat"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut holder) = command.spawn() else {
            println!("SKIPPED: there is no unshare(1) here, so no small disk can be mounted");
            return None;
        };
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("it is piped")).read_line(&mut line).expect("a pipe");
        if line.trim() != "ready" {
            let mut why = String::new();
            holder.stderr.take().expect("it is piped").read_to_string(&mut why).expect("a pipe");
            holder.wait().expect("a child");
            println!("SKIPPED: a small disk cannot be mounted here (it takes root): {}", why.trim());
            return None;
        }
        Some(Self { holder, at: at.to_path_buf(), pool })
    }

    /// What to put before a command that is to see the disk.
    pub fn enter(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        ["nsenter", "--target", &target, "--mount", "--"].map(str::to_owned).to_vec()
    }

    /// A path on the disk, as this process sees it.
    pub fn path(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.at.strip_prefix("/").expect("an absolute path")).join(name)
    }

    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path("")).expect("a mount");
        stat.f_bavail * stat.f_frsize
    }

    /// Takes all the space there is.
    pub fn fill(&self) {
        let file = File::options().create(true).append(true).open(self.path("filler")).expect("a mount");
        let mut size = file.metadata().expect("a file").len();
        // Large pieces first; then byte by byte what they leave.
        for piece in [1 << 20, 4096, 1] {
            let bytes = vec![1; piece];
            while let Ok(written @ 1..) = file.write_at(&bytes, size) {
                size += written as u64;
            }
        }
    }

    /// Gives it back.
    pub fn empty(&self) {
        fs::remove_file(self.path("filler")).expect("it was filled");
    }

    /// Runs a shell's words in the namespace, with the mount point as `$DATA` and the image as `$IMAGE`.
    pub fn sh(&self, words: &str) {
        let enter = self.enter();
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).args(["sh", "-ec", words]);
        command.env("DATA", &self.at).env("IMAGE", self.pool.join("image"));
        let output = command.output().expect("nsenter");
        assert!(output.status.success(), "{words}: {output:?}");
    }

    /// Every operation fails with an I/O error from now on, as on a disk that was pulled out.
    pub fn pull_out(&self) {
        // EXT4_IOC_SHUTDOWN, without writing anything any more.
        self.sh(
            r#"perl -e '$flags = pack("L", 2); open(D, "<", $ENV{DATA}) and ioctl(D, 0x8004587d, $flags) or die $!'"#,
        );
    }

    /// What the kernel does to a file system that is damaged: it can be read, but not written to any more.
    pub fn make_read_only(&self) {
        self.sh("mount -o remount,abort \"$DATA\"");
    }

    /// The disk is back, with what was really on it.
    pub fn plug_in(&self) {
        self.sh("umount \"$DATA\"; mount -o loop,errors=continue \"$IMAGE\" \"$DATA\"");
    }

    /// Everything that writes waits until [`SmallDisk::thaw`].
    pub fn freeze(&self) {
        self.sh("fsfreeze --freeze \"$DATA\"");
    }

    pub fn thaw(&self) {
        self.sh("fsfreeze --unfreeze \"$DATA\"");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its input ends with this, and the namespace with it.
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

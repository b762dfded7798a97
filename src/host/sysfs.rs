// SPDX-License-Identifier: BSD-3-Clause
//! What rtnetlink does not tell of a link: its parent before Linux 5.14, its kernel driver and whether its ibverbs device is
//! there.
//!
//! ```text
//!   /sys/class/net/veth0 -> …/devices/virtual/net/veth0    a virtual link
//!   /sys/class/net/eth0/ifindex                            3
//!                      /device -> …/<parent device>        absent for a virtual link
//!                             /subsystem -> …/bus/vmbus
//!                             /class_id                    {f8615163-df3e-46c5-913f-f2d2f965ed0e}: NetVSC
//!   /sys/bus/pci/devices/7870:00:02.0/driver -> …/drivers/mlx5_core
//!                                    /infiniband_verbs/uverbs0
//! ```
//!
//! sysfs knows links by name only, and a name may be given to another link at any moment, or belong to one of another
//! network namespace when `/sys` was mounted there. So each question about a link reads `ifindex` before and after, and has no answer
//! when it is not that of the link in question: it is to be asked again.
//!
//! Nor is there an answer in what is missing. The kernel takes the entries of a link and of its device away one by one,
//! while the link still is there (`drivers/base/core.c`, `device_remove_class_symlinks`; `drivers/base/bus.c`,
//! `bus_remove_device`).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::address::{IfIndex, IfName, PciAddr};
use crate::link::{KernelDriver, Parent, Unreadable};

/// Class of Hyper-V's synthetic network device (`include/linux/hyperv.h`, `HV_NIC_GUID`).
const NETVSC_CLASS: &str = "{f8615163-df3e-46c5-913f-f2d2f965ed0e}";

/// Folder of the links without a device.
const VIRTUAL: &str = "devices/virtual/net";

/// The tree of files in which the kernel shows its devices.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    /// Takes the place where every system mounts it.
    fn default() -> Self {
        Self::at("/sys")
    }
}

impl Sysfs {
    /// Takes the folder where it is mounted.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Tells which device a link sits on; [`Parent::Unknown`] when sysfs does not show all that tells, as its device goes,
    /// and [`Parent::Unreadable`] when it does not show the link.
    ///
    /// # Errors
    ///
    /// When sysfs is there but cannot be read.
    pub fn parent(&self, name: &IfName, index: IfIndex) -> io::Result<Parent> {
        let parent = self.ask(name, index, |link| {
            let device = link.join("device");
            let Some(target) = some(fs::read_link(&device))? else {
                // Where the kernel puts what has no parent (`drivers/base/core.c`, `get_device_parent`).
                let place = some(fs::read_link(link))?;
                let is_virtual = place.is_some_and(|place| place.parent().is_some_and(|net| net.ends_with(VIRTUAL)));
                return Ok(if is_virtual { Parent::None } else { Parent::Unknown });
            };
            let bus = some(fs::read_link(device.join("subsystem")))?;
            Ok(match bus.as_deref().and_then(Path::file_name).map(OsStr::as_bytes) {
                Some(b"pci") => {
                    let name = target.file_name().and_then(OsStr::to_str);
                    name.and_then(|name| name.parse().ok()).map_or(Parent::Other, Parent::Pci)
                }
                Some(b"vmbus") => match some(attribute(&device.join("class_id")))? {
                    Some(class) if is_netvsc(&class) => Parent::NetVsc,
                    Some(_) => Parent::Other,
                    None => Parent::Unknown,
                },
                Some(_) => Parent::Other,
                None => Parent::Unknown,
            })
        });
        Ok(parent?.unwrap_or_else(|| {
            let mounted = self.root.join("class/net").exists();
            Parent::Unreadable(if mounted { Unreadable::Elsewhere } else { Unreadable::NotMounted })
        }))
    }

    /// Tells the kernel driver of a PCI function; `None` when it has none or is gone.
    ///
    /// # Errors
    ///
    /// When sysfs is there but cannot be read.
    pub fn kernel_driver(&self, function: PciAddr) -> io::Result<Option<KernelDriver>> {
        let driver = some(fs::read_link(self.function(function).join("driver")))?;
        Ok(driver.as_deref().and_then(Path::file_name).map(|name| KernelDriver::of_name(name.as_bytes())))
    }

    /// Tells whether the ibverbs device is there by which a PMD drives a PCI function (mlx4, mlx5).
    ///
    /// The kernel makes it some time after the link, in another module.
    ///
    /// # Errors
    ///
    /// When sysfs is there but cannot be read.
    pub fn has_verbs(&self, function: PciAddr) -> io::Result<bool> {
        has_entries(&self.function(function).join("infiniband_verbs"))
    }

    fn function(&self, address: PciAddr) -> PathBuf {
        self.root.join("bus/pci/devices").join(address.to_string())
    }

    /// Tells whether there is any device on Hyper-V's VMBus.
    pub fn vmbus_present(&self) -> bool {
        has_entries(&self.root.join("bus/vmbus/devices")).unwrap_or_default()
    }

    /// Puts a question to the folder of a link; `None` when it is not (or did not stay) that of the link with `index`.
    fn ask<T>(
        &self,
        name: &IfName,
        index: IfIndex,
        question: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let link = self.root.join("class/net").join(OsStr::from_bytes(name.as_bytes()));
        let is_it = || {
            let text = some(attribute(&link.join("ifindex")))?.and_then(|text| String::from_utf8(text).ok());
            Ok::<_, io::Error>(text.is_some_and(|text| text.trim_end().parse() == Ok(index.get())))
        };
        if !is_it()? {
            return Ok(None);
        }
        let answer = question(&link);
        if !is_it()? {
            return Ok(None);
        }
        answer.map(Some)
    }
}

/// Reads an attribute of a device; none that we ask for is longer.
fn attribute(path: &Path) -> io::Result<Vec<u8>> {
    const BYTES_MAX: usize = 64;
    let mut text = Vec::with_capacity(BYTES_MAX);
    File::open(path)?.take(BYTES_MAX as u64).read_to_end(&mut text)?;
    Ok(text)
}

/// Takes "there is no such file" for an answer. The kernel says `ENODEV` when a device goes while its file is open.
fn some<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ENODEV)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_netvsc(class: &[u8]) -> bool {
    class.strip_suffix(b"\n").unwrap_or(class) == NETVSC_CLASS.as_bytes()
}

fn has_entries(folder: &Path) -> io::Result<bool> {
    let first = some(fs::read_dir(folder))?.and_then(|mut entries| entries.next());
    Ok(first.transpose()?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A sysfs of our own, removed at the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!("vdev_netvsc-sysfs-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let root = std::env::temp_dir().join(name);
            fs::create_dir(&root).unwrap();
            Self(root)
        }

        fn sysfs(&self) -> Sysfs {
            Sysfs::at(&self.0)
        }

        fn folder(&self, path: &str) -> PathBuf {
            let folder = self.0.join(path);
            fs::create_dir_all(&folder).unwrap();
            folder
        }

        /// Makes a device on a bus.
        fn device(&self, bus: &str, name: &str) -> PathBuf {
            let device = self.folder(&format!("devices/{bus}/{name}"));
            symlink(self.folder(&format!("bus/{bus}")), device.join("subsystem")).unwrap();
            device
        }

        /// Makes a link, as in `/sys/class/net`: a symbolic link to a folder below its device.
        fn link(&self, name: &str, index: u32, device: Option<&Path>) -> (IfName, IfIndex) {
            let below = device.map_or_else(|| self.folder("devices/virtual"), Path::to_path_buf).join("net").join(name);
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join("ifindex"), format!("{index}\n")).unwrap();
            if let Some(device) = device {
                symlink(Path::new("../..").join("..").join(device.file_name().unwrap()), below.join("device")).unwrap();
            }
            symlink(&below, self.folder("class/net").join(name)).unwrap();
            (IfName::new(name.as_bytes()).unwrap(), IfIndex::new(index).unwrap())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_parent_is_read_off_the_device() {
        let pci = Parent::Pci("7870:00:02.0".parse().unwrap());
        let class = |tail: &str| Some(format!("{{f8615163-df3e-46c5-913f-f2d2f965ed0e}}{tail}"));
        for (case, bus, device, class, want) in [
            ("a VF", "pci", "7870:00:02.0", None, pci),
            ("a NetVSC", "vmbus", "f8b3781a-1e82-4818-a1c3-63d806ec15bb", class("\n"), Parent::NetVsc),
            ("a NetVSC without newline", "vmbus", "1", class(""), Parent::NetVsc),
            ("a class that is longer", "vmbus", "1", class("x\n"), Parent::Other),
            ("two lines", "vmbus", "1", class("\n\n"), Parent::Other),
            ("another class", "vmbus", "1", Some("{cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a}\n".to_owned()), Parent::Other),
            ("virtio", "virtio", "virtio0", None, Parent::Other),
            ("an odd name", "pci", "7870", None, Parent::Other),
        ] {
            let tree = Tree::new();
            let device = tree.device(bus, device);
            if let Some(class) = class {
                fs::write(device.join("class_id"), class).unwrap();
            }
            let (name, index) = tree.link("eth0", 3, Some(&device));
            assert_eq!(tree.sysfs().parent(&name, index).unwrap(), want, "{case}");
        }
    }

    #[test]
    fn a_virtual_link_has_no_parent() {
        let tree = Tree::new();
        let (name, index) = tree.link("veth0", 3, None);
        assert_eq!(tree.sysfs().parent(&name, index).unwrap(), Parent::None);
    }

    /// A NetVSC link.
    fn netvsc(tree: &Tree) -> (IfName, IfIndex, PathBuf) {
        let device = tree.device("vmbus", "1");
        fs::write(device.join("class_id"), NETVSC_CLASS).unwrap();
        let (name, index) = tree.link("eth0", 3, Some(&device));
        (name, index, device)
    }

    #[test]
    fn a_link_that_lacks_an_entry_is_not_told_apart() {
        for missing in ["net/eth0/device", "subsystem", "class_id"] {
            let tree = Tree::new();
            let (name, index, device) = netvsc(&tree);
            assert_eq!(tree.sysfs().parent(&name, index).unwrap(), Parent::NetVsc);
            fs::remove_file(device.join(missing)).unwrap();
            assert_eq!(tree.sysfs().parent(&name, index).unwrap(), Parent::Unknown, "{missing}");
        }
        let tree = Tree::new();
        let (name, index, _) = netvsc(&tree);
        let elsewhere = Parent::Unreadable(Unreadable::Elsewhere);
        fs::remove_file(tree.0.join("class/net/eth0")).unwrap();
        assert_eq!(tree.sysfs().parent(&name, index).unwrap(), elsewhere);
        fs::remove_dir(tree.0.join("class/net")).unwrap();
        assert_eq!(tree.sysfs().parent(&name, index).unwrap(), Parent::Unreadable(Unreadable::NotMounted));
    }

    #[test]
    fn a_link_with_an_entry_that_cannot_be_read_is_an_error() {
        for unreadable in ["net/eth0/device", "subsystem", "class_id"] {
            let tree = Tree::new();
            let (name, index, device) = netvsc(&tree);
            let entry = device.join(unreadable);
            fs::remove_file(&entry).unwrap();
            // This much root may not read, either: a link that leads to itself, and no link at all.
            let errno = if unreadable == "class_id" {
                symlink("class_id", &entry).unwrap();
                libc::ELOOP
            } else {
                fs::write(&entry, "").unwrap();
                libc::EINVAL
            };
            let error = tree.sysfs().parent(&name, index).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{unreadable}");
        }
    }

    #[test]
    fn a_name_that_is_another_links_by_now_tells_nothing() {
        let tree = Tree::new();
        let device = tree.device("pci", "0000:00:02.0");
        let (name, _) = tree.link("eth0", 3, Some(&device));
        let index = IfIndex::new(4).unwrap();
        let unknown = IfName::new(b"eth1").unwrap();
        for name in [name, unknown] {
            assert_eq!(tree.sysfs().parent(&name, index).unwrap(), Parent::Unreadable(Unreadable::Elsewhere));
        }
    }

    #[test]
    fn a_name_that_becomes_another_links_during_the_question_tells_nothing() {
        let tree = Tree::new();
        let (name, index) = tree.link("eth0", 3, None);
        let answer = tree.sysfs().ask(&name, index, |link| fs::write(link.join("ifindex"), "4\n"));
        assert!(answer.unwrap().is_none());
    }

    #[test]
    fn a_name_need_not_be_utf_8() {
        let tree = Tree::new();
        let (_, index) = tree.link("eth0", 3, None);
        let name = IfName::new(b"\xffeth)").unwrap();
        let net = tree.folder("class/net");
        fs::rename(net.join("eth0"), net.join(OsStr::from_bytes(name.as_bytes()))).unwrap();
        assert_eq!(tree.sysfs().parent(&name, index).unwrap(), Parent::None);
    }

    #[test]
    fn a_function_has_a_driver_and_verbs_once_its_folder_shows_them() {
        let tree = Tree::new();
        let function = "7870:00:02.0".parse().unwrap();
        assert_eq!(tree.sysfs().kernel_driver(function).unwrap(), None);
        assert!(!tree.sysfs().has_verbs(function).unwrap());
        let device = tree.folder("bus/pci/devices/7870:00:02.0");
        for (name, driver) in [
            ("mlx4_core", KernelDriver::Mlx),
            ("mlx5_core", KernelDriver::Mlx),
            ("mana", KernelDriver::Mana),
            ("ixgbevf", KernelDriver::Other),
        ] {
            let link = device.join("driver");
            symlink(Path::new("../../../bus/pci/drivers").join(name), &link).unwrap();
            assert_eq!(tree.sysfs().kernel_driver(function).unwrap(), Some(driver), "{name}");
            fs::remove_file(link).unwrap();
        }
        assert_eq!(tree.sysfs().kernel_driver(function).unwrap(), None);
        // No link, which cannot be read as one.
        fs::write(device.join("driver"), "").unwrap();
        assert_eq!(tree.sysfs().kernel_driver(function).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        fs::create_dir(device.join("infiniband_verbs")).unwrap();
        assert!(!tree.sysfs().has_verbs(function).unwrap());
        fs::create_dir(device.join("infiniband_verbs/uverbs0")).unwrap();
        assert!(tree.sysfs().has_verbs(function).unwrap());
    }

    #[test]
    fn a_vmbus_is_present_once_it_holds_a_device() {
        let tree = Tree::new();
        assert!(!tree.sysfs().vmbus_present());
        let devices = tree.folder("bus/vmbus/devices");
        assert!(!tree.sysfs().vmbus_present());
        fs::create_dir(devices.join("f8b3781a-1e82-4818-a1c3-63d806ec15bb")).unwrap();
        assert!(tree.sysfs().vmbus_present());
    }
}

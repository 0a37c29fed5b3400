//! MD5 sums of the official files, as their publishers state them.

use std::path::Path;

use md5::Md5;

use crate::error::Error;
use crate::store::checksum;

/// MD5, what it is of. Those of unpacked files follow from the packed ones.
const OFFICIAL: &[(&str, &str)] = &[
    ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "MNIST, official train-images-idx3-ubyte.gz"),
    ("d53e105ee54ea40749a09fcbcd1e9432", "MNIST, official train-labels-idx1-ubyte.gz"),
    ("9fb629c4189551a2d022fa330f9573f3", "MNIST, official t10k-images-idx3-ubyte.gz"),
    ("ec29112dd5afa0611ce80d1b7f02629c", "MNIST, official t10k-labels-idx1-ubyte.gz"),
    ("6bbc9ace898e44ae57da46a324031adb", "MNIST, official train-images-idx3-ubyte, unpacked"),
    ("a25bea736e30d166cdddb491f175f624", "MNIST, official train-labels-idx1-ubyte, unpacked"),
    ("2646ac647ad5339dbf082846283269ea", "MNIST, official t10k-images-idx3-ubyte, unpacked"),
    ("27ae3e4e09519cfbb04c329615203637", "MNIST, official t10k-labels-idx1-ubyte, unpacked"),
    ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "Fashion-MNIST, official train-images-idx3-ubyte.gz"),
    ("25c81989df183df01b3e8a0aad5dffbe", "Fashion-MNIST, official train-labels-idx1-ubyte.gz"),
    ("bef4ecab320f06d8554ea6380940ec79", "Fashion-MNIST, official t10k-images-idx3-ubyte.gz"),
    ("bb300cfdad3c16e7a12a480ee83cd310", "Fashion-MNIST, official t10k-labels-idx1-ubyte.gz"),
    ("bdb82020997e1d708af4cf47b453dcf7", "KMNIST, official train-images-idx3-ubyte.gz"),
    ("e144d726b3acfaa3e44228e80efcd344", "KMNIST, official train-labels-idx1-ubyte.gz"),
    ("5c965bf0a639b31b8f53240b1b52f4d7", "KMNIST, official t10k-images-idx3-ubyte.gz"),
    ("7320c461ea6c1c855c0b718fb2a4b134", "KMNIST, official t10k-labels-idx1-ubyte.gz"),
    ("c32a1d4ab5d03f1284b67883e8d87530", "CIFAR-10, official cifar-10-binary.tar.gz"),
];

/// The MD5 of a file in hexadecimal, and the official file it is, if any.
pub(super) fn identify(path: &Path) -> Result<(String, Option<&'static str>), Error> {
    let sum = checksum::of_file::<Md5>(path)?;
    let known = OFFICIAL.iter().find(|(known, _)| *known == sum).map(|(_, name)| *name);
    Ok((sum, known))
}

# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for one test."""
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _private(key):
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _replace(path, data):
    new = path.with_suffix(".new")
    with open(os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(data)
    new.rename(path)


def _certificate(subject, key, issuer, issuer_key, extension, critical):
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
    return builder.add_extension(extension, critical).sign(issuer_key, hashes.SHA256())


def make(directory, address):
    """Writes ca.pem and ca-key.pem, and cert.pem and key.pem for an address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Ebb's tests")
    authority = _certificate(name, key, name, key, x509.BasicConstraints(ca=True, path_length=None), True)
    _replace(directory / "ca.pem", authority.public_bytes(PEM))
    _replace(directory / "ca-key.pem", _private(key))
    renew(directory, address)


def renew(directory, address):
    """Another certificate and key from the same authority."""
    authority = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    authority_key = serialization.load_pem_private_key((directory / "ca-key.pem").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    certificate = _certificate(_name(address), key, authority.subject, authority_key, names, False)
    _replace(directory / "key.pem", _private(key))
    _replace(directory / "cert.pem", certificate.public_bytes(PEM))

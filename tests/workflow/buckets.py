"""S3 of the embedded cloud, for tests that store files in it."""

from __future__ import annotations

from typing import Any

import boto3

from snakemake_executor_ec2.local.cloud import EmbeddedCloud

SECRET_KEY = "the-key-to-all-buckets"  # noqa: S105 - moto takes any


class Buckets:
    """Its buckets, and the credentials that open them (moto takes any)."""

    def __init__(self, cloud: EmbeddedCloud) -> None:
        self.credentials = {
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": cloud.endpoint_url,
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "bucket-user",
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": SECRET_KEY,
        }
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=cloud.endpoint_url,
            aws_access_key_id="bucket-user",
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
        )

    def put(self, bucket: str, key: str, text: str) -> None:
        """Make a file, and the bucket that it is in."""
        self._s3.create_bucket(Bucket=bucket)
        self._s3.put_object(Bucket=bucket, Key=key, Body=text.encode())

    def get(self, bucket: str, key: str) -> str:
        """The content of a file."""
        return str(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read(), "utf-8")

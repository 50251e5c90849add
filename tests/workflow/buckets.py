"""S3 of the embedded cloud, for tests that store files in it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import boto3

from snakemake_executor_ec2.local.cloud import EmbeddedCloud


class Buckets:
    """Its buckets, and the credentials of a user who may open them."""

    def __init__(self, cloud: EmbeddedCloud) -> None:
        iam: Any = boto3.client(
            "iam",
            endpoint_url=cloud.endpoint_url,
            aws_access_key_id=cloud.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=cloud.env["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )
        user = f"bucket-user-{uuid4()}"
        iam.create_user(UserName=user)
        made = iam.create_access_key(UserName=user)["AccessKey"]
        self.secret_key: str = made["SecretAccessKey"]
        self.credentials = {
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": cloud.endpoint_url,
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": made["AccessKeyId"],
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": self.secret_key,
        }
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=cloud.endpoint_url,
            aws_access_key_id=made["AccessKeyId"],
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )

    def put(self, bucket: str, key: str, text: str) -> None:
        """Make a file, and the bucket that it is in."""
        self._s3.create_bucket(Bucket=bucket)
        self._s3.put_object(Bucket=bucket, Key=key, Body=text.encode())

    def get(self, bucket: str, key: str) -> str:
        """The content of a file."""
        return str(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read(), "utf-8")

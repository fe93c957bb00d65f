"""That the environments of the tests hold what they should: Spark answers."""

from tests.servers.spark import SAIL


def test_spark_answers(spark):
    assert spark.sql("SELECT 1 AS one").collect()[0].one == 1


def test_each_environment_has_one_spark(spark):
    assert type(spark).__module__ == ("pyspark.sql.connect.session" if SAIL else "pyspark.sql.session")

"""The consumer group: its public class, and the parts that its threads are made of."""
